"""Calls of a site's own tools, against an API on loopback."""

import asyncio
import logging
from dataclasses import dataclass, field, replace

import orjson
import pytest

from infra.modules.answers import ANSWER_BYTES
from infra.tools.hosts import parse_hosts
from infra.tools.http_gateway import HttpToolGateway
from infra.tools.http_tool import HttpTool
from infra.web.connecting import Connector
from processors.tools.call import call_tool
from processors.tools.port import ToolResult
from schemas.ids import SiteId
from schemas.message import JsonObject
from tests.infra.tools.samples import SECRET, SITE, Source, http, request, sealer, tool
from tests.infra.web.wires import Names, Wires, answer, redirect, serving


@dataclass
class Api:
    """An API that gives `answers`, one after the other; the last stays."""

    answers: list[bytes]
    asked: list[bytes] = field(default_factory=list)

    async def __call__(self, raw: bytes, writer: asyncio.StreamWriter) -> None:
        self.asked.append(raw)
        writer.write(self.answers[min(len(self.asked), len(self.answers)) - 1])


async def called(api: Api, arguments: JsonObject | None = None, **changes: object) -> ToolResult:
    async with serving(api) as port:
        made = tool(**{"http": http(url=f"http://127.0.0.1:{port}/orders/{{order_id}}"), **changes})
        source = Source()
        source.keep(made)
        gateway = HttpToolGateway(source, sealer, parse_hosts([f"127.0.0.1:{port}"]))
        asked = request(made, arguments or {"order_id": "7", "reason": "late"})
        return await call_tool(lambda r: gateway.call("http", "call", r), asked, random=lambda: 0.0)


async def test_a_call_carries_its_key_its_secret_and_whose_it_is() -> None:
    api = Api([answer('{"done": true}', Content_Type="application/json")])
    assert await called(api) == ToolResult(output={"done": True})
    head, _, body = api.asked[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /orders/7 HTTP/1.1"
    for line in (f"Authorization: Bearer {SECRET.decode()}", "Idempotency-Key: call-1", "X-Dramac-Execution: run"):
        assert line in lines
    assert f"X-Dramac-Site: {SITE}" in lines
    assert orjson.loads(body) == {"reason": "late"}


async def test_text_is_a_result_and_what_is_neither_may_have_acted() -> None:
    assert (await called(Api([answer("two words", Content_Type="text/plain")]))).output == "two words"
    assert (await called(Api([answer(b"\xff\x00", Content_Type="text/plain")]))).output == "\ufffd\ufffd"
    failed = await called(Api([answer("<", Content_Type="application/json")]))
    assert failed.error == (
        "order_cancel is not available at the moment. "
        "It may have taken effect all the same: check before you try again."
    )


async def test_only_what_is_idempotent_is_tried_again_with_the_same_key() -> None:
    api = Api([answer("", "503 Busy"), answer("{}", Content_Type="application/json")])
    assert (await called(api, idempotent=True)).output == {}
    assert [b"Idempotency-Key: call-1" in raw for raw in api.asked] == [True, True]
    once = Api([answer("", "503 Busy"), answer("{}")])
    assert (await called(once)).error is not None
    assert len(once.asked) == 1


async def test_what_the_api_refuses_is_told_without_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = orjson.dumps({"error": f"no: {SECRET.decode()}\x00 is wrong"})
    assert (await called(Api([answer(told, "422 No")]))).error == "no: [secret]\ufffd is wrong"
    assert (
        await called(Api([answer("", "401 Who")]))
    ).error == "The tool order_cancel does not accept calls of this system."
    echo = answer(orjson.dumps({"you": SECRET.decode()}), Content_Type="application/json")
    assert (await called(Api([echo]))).output == {"you": "[secret]"}
    assert SECRET.decode() not in caplog.text


async def test_an_answer_is_bounded_and_leads_nowhere_else() -> None:
    large = answer(b"[" + b"1," * ANSWER_BYTES + b"1]", Content_Type="application/json")
    assert "more than 1024 KiB" in str((await called(Api([large]))).error)
    api = Api([redirect("http://169.254.169.254/")])
    assert (await called(api)).error == "The tool order_cancel does not accept calls of this system."
    assert len(api.asked) == 1


async def test_silence_ends_with_the_tools_own_time() -> None:
    async def hang(raw: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(hang) as port:
        source = Source()
        made = source.keep(tool(http=http(url=f"http://127.0.0.1:{port}/{{order_id}}"), timeout_s=0.05))
        gateway = HttpToolGateway(source, sealer, parse_hosts([f"127.0.0.1:{port}"]))
        result = await call_tool(lambda r: gateway.call("http", "call", r), request(made, {"order_id": "7"}))
    assert str(result.error).startswith("order_cancel did not answer within 0.05 s. It may have taken effect")


async def refused(made: HttpTool, *, hosts: tuple[str, ...] = ("api.example.com",), names: Names | None = None) -> str:
    """What a call is refused with; nothing was connected to."""
    source, wires = Source(), Wires()
    source.keep(made)
    connector = Connector(wires, names or Names())
    gateway = HttpToolGateway(source, sealer, parse_hosts(hosts), connector=connector)
    result = await call_tool(lambda r: gateway.call("http", "call", r), request(made, {"order_id": "7"}))
    assert wires.connected == []
    assert result.error is not None
    return result.error


async def test_a_host_that_is_allowed_by_name_must_still_be_public() -> None:
    for address in ("127.0.0.1", "169.254.169.254", "10.0.0.8", "::ffff:127.0.0.1"):
        assert "only public websites" in await refused(tool(), names=Names({"api.example.com": [[address]]}))


async def test_a_host_that_is_no_longer_allowed_is_not_reached() -> None:
    assert "DRAMAC_TOOL_HOSTS" in await refused(tool(), hosts=("other.example.com",))


async def test_a_secret_is_never_sent_in_the_open() -> None:
    assert "https only" in await refused(tool(http=http(url="http://api.example.com/{order_id}")))


async def test_a_secret_that_does_not_open_is_not_guessed() -> None:
    source, made = Source(), tool()
    source.keep(made)
    key = (made.name, "1")
    source.tools[key] = replace(source.tools[key], site_id=SiteId("other"))
    gateway = HttpToolGateway(source, sealer, parse_hosts(["api.example.com"]), connector=Connector(Wires(), Names()))
    result = await call_tool(lambda r: gateway.call("http", "call", r), request(made, {"order_id": "7"}))
    assert "its secret can't be read" in str(result.error)


async def test_another_site_and_another_version_are_not_found() -> None:
    source, made = Source(), tool()
    source.keep(made)
    gateway = HttpToolGateway(source, sealer, parse_hosts(["api.example.com"]), connector=Connector(Wires(), Names()))
    for asked in (
        request(made, {"order_id": "7"}, site_id=SiteId("other")),
        request(made, {"order_id": "7"}, version=2),
    ):
        result = await call_tool(lambda r: gateway.call("http", "call", r), asked)
        assert result.error == "The tool order_cancel was removed: it can't be called any more."
