"""Modules over HTTP, with a real server on loopback that fails in every way a server can."""

import asyncio
import base64
import email.utils
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import orjson
import pytest
import pytest_asyncio
from pydantic import HttpUrl, SecretStr, ValidationError

from infra.modules.addresses import ModuleAddress
from infra.modules.answers import ANSWER_BYTES
from infra.modules.http import HttpModules
from processors.tools.builtin.communication import SEND_EMAIL
from processors.tools.builtin.crm import CREATE_CONTACT
from processors.tools.call import call_tool
from processors.tools.port import BusyError, ToolError, ToolRequest, ToolResult
from schemas.catalogue import ToolDefinition
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.message import Json, JsonObject
from tests.infra.web.wires import answer, serving
from tests.naughty import naughty_strings

SECRET = "a-secret-that-nobody-may-see"
NOW_S = 1_790_000_000.5

Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]


def says(body: str, status: str = "200 OK", **headers: str) -> Fault:
    async def fault(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body, status, **headers))

    return fault


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.write(answer("", Content_Length="100") + b'{"half":')


async def close(writer: asyncio.StreamWriter) -> None:
    return


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n[")
    while True:
        writer.write(b"1," * 32_768)
        await writer.drain()


@dataclass
class Module:
    """A module that acts once for each key. `faults` befall its answers, one each, after it has acted or before."""

    port: int = 0
    before: list[Fault] = field(default_factory=list)
    after: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    applied: dict[str, JsonObject] = field(default_factory=dict)

    async def serve(self, raw: bytes, writer: asyncio.StreamWriter) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (entry.partition(":") for entry in rest)}
        self.requests.append((line, headers, body))
        if self.before:
            await self.before.pop(0)(writer)
            return
        key = headers["idempotency-key"]
        if key not in self.applied:
            self.applied[key] = {"number": len(self.applied) + 1, "given": orjson.loads(body)["arguments"]}
        if self.after:
            await self.after.pop(0)(writer)
            return
        writer.write(answer(orjson.dumps(self.applied[key])))

    def gateway(self, timeout_s: float = 5.0) -> HttpModules:
        address = ModuleAddress(
            url=HttpUrl(f"http://127.0.0.1:{self.port}/modules/crm"), secret=SecretStr(SECRET), timeout_s=timeout_s
        )
        return HttpModules({"crm": address}, now_s=lambda: NOW_S)


@pytest_asyncio.fixture
async def module() -> AsyncIterator[Module]:
    made = Module()
    async with serving(made.serve) as made.port:
        yield made


def request(tool: ToolDefinition = CREATE_CONTACT, key: str = "call-1", **arguments: Json) -> ToolRequest:
    return ToolRequest(
        CallId(key),
        tool,
        arguments,
        SiteId("site"),
        AgentId("agent"),
        ExecutionId("run"),
        correlation_id="why",
        depth=2,
    )


async def called(
    module: Module, tool: ToolDefinition = CREATE_CONTACT, timeout_s: float = 5.0, **arguments: Json
) -> tuple[ToolResult, list[float]]:
    """Return what a call gives, retries included, and the waits between them."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with module.gateway(timeout_s) as gateway:

        async def ask(asked: ToolRequest) -> Json:
            return await gateway.call("crm", "createContact", asked)

        return await call_tool(ask, request(tool, **arguments), sleep=sleep, random=lambda: 1.0), waits


async def test_a_call_is_signed_named_and_answered(module: Module) -> None:
    result, _ = await called(module, email="maya@example.com")
    assert result == ToolResult(output={"number": 1, "given": {"email": "maya@example.com"}})
    ((line, headers, body),) = module.requests
    assert line == "POST /modules/crm/createContact HTTP/1.1"
    assert headers["idempotency-key"] == headers["webhook-id"] == "call-1"
    assert headers["webhook-timestamp"] == "1790000000"
    expected = hmac.digest(SECRET.encode(), b"call-1.1790000000." + body, hashlib.sha256)
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert orjson.loads(body) == {
        "call_id": "call-1",
        "site_id": "site",
        "agent_id": "agent",
        "execution_id": "run",
        "correlation_id": "why",
        "depth": 2,
        "module": "crm",
        "action": "createContact",
        "arguments": {"email": "maya@example.com"},
    }
    assert SECRET not in str(module.requests)


@pytest.mark.parametrize(
    "fault",
    [says("oops", "500 Broken"), says("", "503 Busy"), says("", "408 Slow"), cut, close, says("<html>"), says("{")],
    ids=["500", "503", "408", "cut", "closed", "html", "half"],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_change_is_made_once_whatever_befalls_its_answer(module: Module, fault: Fault, when: str) -> None:
    getattr(module, when).extend([fault, fault])
    result, waits = await called(module, email="maya@example.com")
    assert result.output == {"number": 1, "given": {"email": "maya@example.com"}}
    assert (len(module.applied), len(module.requests), len(waits)) == (1, 3, 2)
    assert {headers["idempotency-key"] for _, headers, _ in module.requests} == {"call-1"}


async def test_a_module_that_hangs_is_asked_again_with_the_same_key(module: Module) -> None:
    module.after.append(hang)
    result, _ = await called(module, timeout_s=0.3)
    assert result.output == {"number": 1, "given": {}}
    assert (len(module.applied), len(module.requests)) == (1, 2)


async def test_a_module_that_stays_broken_is_told_to_the_model_without_its_words(
    module: Module, caplog: pytest.LogCaptureFixture
) -> None:
    module.after.extend([says(f"trace with {SECRET}", "500 Broken")] * 3)
    result, _ = await called(module)
    assert result.error is not None
    assert result.error.startswith("crm_create_contact is not available at the moment. It may have taken effect")
    assert SECRET not in caplog.text


async def test_what_is_not_idempotent_is_sent_once(module: Module) -> None:
    module.after.append(says("", "500 Broken"))
    result, _ = await called(module, SEND_EMAIL.model_copy(update={"idempotent": False}))
    assert result.error is not None
    assert len(module.requests) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999", 60.0),
        ("-1", 0.0),
        ("soon", 0.0),
        ("1e3", 0.0),
        (email.utils.formatdate(NOW_S + 9.5, usegmt=True), 9.5),
        (email.utils.formatdate(NOW_S - 1_000, usegmt=True), 0.0),
    ],
)
@pytest.mark.parametrize("status", ["429 Too Many", "503 Busy"])
async def test_a_module_that_asks_for_patience_gets_it(
    module: Module, status: str, header: str, seconds: float
) -> None:
    module.before.append(says("", status, Retry_After=header))
    result, waits = await called(module)
    assert result.error is None
    assert waits == [pytest.approx(seconds + 0.25)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": "There is no contact x."}', "There is no contact x."),
        ('{"error": {"message": "Two\\nlines\\u0000"}}', "Two lines\ufffd"),
        ('{"title": "Conflict", "detail": "It is there already."}', "It is there already."),
        ('{"message": "m"}', "m"),
        ("<html>", "The module crm refused this call with status 422."),
        ("[]", "The module crm refused this call with status 422."),
        ('{"error": 7}', "The module crm refused this call with status 422."),
        ('{"error": "' + "x" * 9_000 + '"}', "x" * 500),
        (f'{{"error": "bad signature, wanted {SECRET}"}}', "bad signature, wanted [secret]"),
    ],
)
async def test_a_refusal_reaches_the_model_in_the_modules_words(module: Module, body: str, words: str) -> None:
    module.before.append(says(body, "422 No"))
    result, waits = await called(module)
    assert (result.error, waits) == (words, [])


@pytest.mark.parametrize("status", ["401 Who", "403 No", "302 There", "304 Same"])
async def test_what_only_an_operator_can_mend_is_said_to_the_operator(
    module: Module, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    module.before.append(says('{"error": "bad key"}', status, Location="http://127.0.0.1:1/"))
    result, _ = await called(module)
    assert result.error == "The module crm does not accept calls of this system."
    assert "check its address and secret" in caplog.text
    assert len(module.requests) == 1


@pytest.mark.parametrize("fault", [says("1" * (ANSWER_BYTES + 1)), endless], ids=["long", "endless"])
async def test_an_answer_that_is_too_large_is_not_read_to_its_end(module: Module, fault: Fault) -> None:
    module.after.append(fault)
    result, _ = await called(module)
    assert result.error == "The module crm answered more than 1024 KiB: ask for less."


async def test_an_error_without_end_is_read_in_part(module: Module) -> None:
    module.after.append(says("x" * 500_000, "422 No"))
    assert (await called(module))[0].error == "The module crm refused this call with status 422."


async def test_a_long_answer_is_cut_for_the_log(module: Module) -> None:
    text = "x" * 200_000
    result, _ = await called(module, text=text)
    assert result.output["cut"] is True
    assert result.full_bytes == len(orjson.dumps({"number": 1, "given": {"text": text}}))


async def test_an_empty_answer_is_nothing(module: Module) -> None:
    module.after.append(says("", "204 Done"))
    assert (await called(module))[0] == ToolResult()


async def test_a_secret_in_an_answer_is_taken_out(module: Module) -> None:
    result, _ = await called(module, echo=SECRET)
    assert result.output["given"] == {"echo": "[secret]"}


async def test_a_module_that_is_not_there_is_busy() -> None:
    async with serving(Module().serve) as port:
        gone = port
    address = ModuleAddress(url=HttpUrl(f"http://127.0.0.1:{gone}/"), secret=SecretStr(SECRET))
    async with HttpModules({"crm": address}) as gateway:
        with pytest.raises(BusyError, match="ConnectError"):
            await gateway.call("crm", "createContact", request())
        with pytest.raises(ToolError, match="nothing serves the module email"):
            await gateway.call("email", "send", request())
        with pytest.raises(ToolError):
            await gateway.call("crm", "../admin", request())


async def test_every_naughty_string_goes_there_and_back(module: Module, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with module.gateway() as gateway:
        for number, text in enumerate(naughty_strings()):
            asked = request(key=f"call-{number}", text=text, deep=[{"text": text}])
            result: JsonObject = await gateway.call("crm", "createContact", asked)
            assert result["given"] == {"text": text, "deep": [{"text": text}]}


@pytest.mark.parametrize(
    "given",
    [
        {"url": "ftp://x/", "secret": SECRET},
        {"url": "http://user:password@x/", "secret": SECRET},
        {"url": "http://x/?key=1", "secret": SECRET},
        {"url": "http://x/", "secret": "short"},
        {"url": "http://x/"},
        {"url": "http://x/", "secret": SECRET, "timeout_s": 0},
    ],
)
def test_an_address_is_plain_and_has_a_secret_that_errors_do_not_show(given: JsonObject) -> None:
    with pytest.raises(ValidationError) as caught:
        ModuleAddress.model_validate(given)
    assert SECRET not in str(caught.value)
    assert "password" not in str(caught.value)
