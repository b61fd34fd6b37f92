"""Adapters before a provider that fails on demand: what is told of each failure, and what of it was metered."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Literal

import httpx2
import pytest

from infra.models.addresses import Api
from infra.models.provider import Provider, Timeouts
from infra.models.providers import ProviderConfig, make_port, make_provider
from processors.models.call import Attempt, ModelName, ModelPorts, call_model, without_usage
from processors.models.decisions import DecisionModel
from processors.models.port import Delta, EmbedRequest, ModelReply, ModelRequest
from schemas.chat import ChatMessage, ToolCall, Usage
from schemas.errors import ConfigurationError, InvalidReplyError, ModelError
from schemas.ids import AgentId, ExecutionId, SiteId
from tests.fake_provider import FakeProvider, Fault, Say
from tests.infra.recordings import tool

KEY = "sk-test-0123456789abcdef0123456789"
LOOK_UP = tool("look_up", "Look something up.", {"type": "object", "properties": {"name": {"type": "string"}}})
SHORT = Timeouts(connect_s=1, first_token_s=0.3, between_tokens_s=0.3, total_s=0.6)

Speaks = Literal["openai", "anthropic"]
both = pytest.mark.parametrize("api", ["openai", "anthropic"])


OPENED: list[Provider] = []


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    while OPENED:
        await OPENED.pop().aclose()


def opened(config: ProviderConfig, transport: Any = None) -> Provider:
    OPENED.append(make_provider(config, transport=transport))
    return OPENED[-1]


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider().running() as provider:
        yield provider


def adapter(fake: FakeProvider, api: Speaks, timeouts: Timeouts | None = None) -> Provider:
    address = fake.address + ("/v1" if api == "openai" else "")
    return opened(ProviderConfig(api, api, KEY, address, timeouts=timeouts or Timeouts()))


def request(**changes: Any) -> ModelRequest:
    asked = ModelRequest(
        site_id=SiteId("s"),
        agent_id=AgentId("a"),
        execution_id=ExecutionId("e"),
        step=1,
        provider="openai",
        model="m",
        messages=(ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="hello")),
        tools=(LOOK_UP,),
    )
    return replace(asked, **changes)


def always(fault: Fault) -> Any:
    return lambda number, body: fault


async def failure(provider: Provider, asked: ModelRequest, *, stream: bool = False) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await (exhausted(provider, asked) if stream else provider.complete(asked))
    assert KEY not in str(raised.value)
    return raised.value


async def exhausted(provider: Provider, asked: ModelRequest) -> list[Delta | ModelReply]:
    return [piece async for piece in provider.stream(asked)]


FAILURES: list[tuple[Fault, str, bool, bool]] = [
    ("rate_limited", "rate_limited", True, False),
    ("overloaded", "overloaded", True, False),
    ("server_error", "unavailable", True, True),
    ("work_then_500", "unavailable", True, True),
    ("hang", "timeout", True, True),
    ("cut", "cut_stream", True, True),
    ("truncated_json", "cut_stream", True, True),
    ("context_length", "context_length", False, False),
    ("content_filter", "content_filter", False, False),
]


@both
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "reason", "retryable", "unsettled"), FAILURES)
async def test_a_failure_is_told_in_our_words(
    fake: FakeProvider, api: Speaks, stream: bool, fault: Fault, reason: str, retryable: bool, unsettled: bool
) -> None:
    fake.plan = always(fault)
    error = await failure(adapter(fake, api, SHORT), request(), stream=stream)
    assert (error.reason, error.retryable, error.unsettled) == (reason, retryable, unsettled)
    assert (error.spent or Usage()) == fake.told
    assert len(fake.served) == 1, "the SDK asked again by itself"


@both
async def test_a_stream_that_does_not_begin_is_given_up_before_its_time_is_over(
    fake: FakeProvider, api: Speaks
) -> None:
    fake.plan = always("slow_start")
    error = await failure(adapter(fake, api, SHORT), request(), stream=True)
    assert error.reason == "timeout"
    assert "begin to answer" in str(error)


@both
async def test_a_provider_that_is_not_there_is_unavailable_and_was_not_paid(fake: FakeProvider, api: Speaks) -> None:
    async with FakeProvider().running() as gone:
        provider = adapter(gone, api)
    error = await failure(provider, request())
    assert (error.reason, error.retryable, error.unsettled) == ("unavailable", True, False)


@both
@pytest.mark.parametrize("said", [Say("It is done."), Say("", (("look_up", {"name": "Ada"}), ("look_up", {})))])
async def test_a_stream_ends_in_the_reply_that_is_given_without_it(fake: FakeProvider, api: Speaks, said: Say) -> None:
    fake.say = lambda body: said
    provider = adapter(fake, api)
    whole = await provider.complete(request())
    pieces = await exhausted(provider, request())
    last = pieces.pop()
    assert isinstance(last, ModelReply)
    assert replace(last, reply_id="", latency_ms=0) == replace(whole, reply_id="", latency_ms=0)
    deltas = [piece for piece in pieces if isinstance(piece, Delta)]
    assert "".join(delta.text for delta in deltas if delta.kind == "text") == said.text
    for position, (_, arguments) in enumerate(said.calls):
        told = "".join(d.text for d in deltas if d.kind == "arguments" and d.call == position)
        assert json.loads(told or "{}") == arguments
    assert whole.usage == fake.served[0].told
    assert [(call.name, call.arguments) for call in whole.tool_calls] == list(said.calls)


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_that_are_no_json_are_the_models_fault_and_paid(
    fake: FakeProvider, api: Speaks, stream: bool
) -> None:
    fake.say = lambda body: Say("", (("look_up", {"name": "Ada"}),))
    fake.plan = always("bad_arguments")
    error = await failure(adapter(fake, api), request(), stream=stream)
    assert isinstance(error, InvalidReplyError)
    assert "look_up" in error.problem
    assert error.spent == fake.told


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_usage_is_an_answer_that_is_not_settled(
    fake: FakeProvider, api: Speaks, stream: bool
) -> None:
    fake.plan = always("no_usage")
    provider = adapter(fake, api)
    reply = (await exhausted(provider, request()))[-1] if stream else await provider.complete(request())
    assert isinstance(reply, ModelReply)
    assert (reply.text, reply.settled, reply.usage) == ("Done.", False, Usage())
    assert without_usage(reply).unsettled


class Ledger:
    """What a caller of `call_model` is told, and what it gets."""

    def __init__(self, port: Any) -> None:
        self.port = port
        self.attempts: list[Attempt] = []
        self.metered: list[Usage] = []

    async def tell(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.metered += [attempt.usage] if attempt.usage is not None else []

    async def call(self, asked: ModelRequest, **more: Any) -> ModelReply | ModelError:
        async def at_once(_: float) -> None:
            return

        try:
            reply = await call_model(self.port, asked, sleep=at_once, tell=self.tell, **more)
        except ModelError as error:
            self.metered += [error.spent] if error.spent is not None else []
            return error
        if reply.settled:
            self.metered.append(reply.usage)
        else:
            await self.tell(without_usage(reply))
        return reply

    @property
    def total(self) -> tuple[int, int]:
        return sum(u.input_tokens for u in self.metered), sum(u.output_tokens for u in self.metered)


FAULTS: tuple[Fault, ...] = (
    "none", "rate_limited", "none", "overloaded", "work_then_500", "cut", "truncated_json", "bad_arguments",
    "no_usage", "server_error", "none", "hang",
)  # fmt: skip


@both
async def test_what_is_metered_is_what_the_provider_told_and_the_rest_is_listed(
    fake: FakeProvider, api: Speaks
) -> None:
    fake.say = lambda body: Say("Let me see.", (("look_up", {"name": "Ada"}),))
    fake.plan = lambda number, body: FAULTS[(number * 7) % len(FAULTS)]
    ledger = Ledger(adapter(fake, api, SHORT))
    outcomes = [await ledger.call(request()) for _ in range(30)]
    assert ledger.total == (fake.told.input_tokens, fake.told.output_tokens)
    final = [o for o in outcomes if isinstance(o, ModelError) and o.unsettled]
    listed = sum(attempt.unsettled for attempt in ledger.attempts) + len(final)
    assert listed == fake.untold + sum(one.fault == "server_error" for one in fake.served)
    assert {type(outcome) for outcome in outcomes} >= {ModelReply}


async def test_an_invalid_answer_is_told_to_the_model_twice_and_then_the_call_fails(fake: FakeProvider) -> None:
    fake.say = lambda body: Say("", (("look_up", {"name": "Ada"}),))
    fake.plan = always("bad_arguments")
    ledger = Ledger(adapter(fake, "openai"))
    outcome = await ledger.call(request())
    assert isinstance(outcome, InvalidReplyError)
    assert [attempt.reason for attempt in ledger.attempts] == ["invalid_reply", "invalid_reply"]
    assert ledger.total == (fake.told.input_tokens, fake.told.output_tokens)
    first, second, third = (one.body["messages"] for one in fake.served)
    assert second[: len(first)] == first
    assert [message["role"] for message in second[len(first) :]] == ["assistant", "user"]
    assert "can't be used" in second[-1]["content"]
    assert len(third) == len(first) + 4


async def test_a_model_that_is_corrected_may_still_answer(fake: FakeProvider) -> None:
    fake.say = lambda body: Say("", (("look_up", {"name": "Ada"}),))
    fake.plan = lambda number, body: "bad_arguments" if number == 0 else "none"
    reply = await Ledger(adapter(fake, "openai")).call(request())
    assert isinstance(reply, ModelReply)
    assert reply.tool_calls[0].arguments == {"name": "Ada"}


async def test_another_model_answers_for_one_that_does_not(fake: FakeProvider) -> None:
    fake.plan = lambda number, body: "overloaded" if body["model"] == "m" else "none"
    ports = ModelPorts({api: adapter(fake, api) for api in ("openai", "anthropic")})
    ledger = Ledger(ports)
    reply = await ledger.call(request(), fallbacks=(ModelName("anthropic", "other"),))
    assert isinstance(reply, ModelReply)
    assert (reply.provider, reply.model) == ("anthropic", "other")
    assert [(a.provider, a.model, a.reason) for a in ledger.attempts] == [("openai", "m", "overloaded")] * 3


async def test_old_results_are_shortened_once_for_a_prompt_that_is_too_long(fake: FakeProvider) -> None:
    fake.plan = lambda number, body: "context_length" if len(json.dumps(body)) > 10_000 else "none"
    turns: list[ChatMessage] = list(request().messages)
    for n in range(4):
        call = ToolCall(id=f"c{n}", name="look_up", arguments={})
        turns.append(ChatMessage(role="assistant", content="", tool_calls=(call,)))
        turns.append(ChatMessage(role="tool", content=str(n) * 3_000, tool_call_id=f"c{n}"))
    ledger = Ledger(adapter(fake, "openai"))
    assert isinstance(await ledger.call(request(messages=tuple(turns))), ModelReply)
    told = [message["content"] for message in fake.served[1].body["messages"] if message["role"] == "tool"]
    assert [len(text) > 2_000 for text in told] == [False, False, True, True]
    assert "shortened: 3000 characters in all" in told[0]
    assert [attempt.reason for attempt in ledger.attempts] == ["context_length"]


async def test_a_prompt_that_stays_too_long_fails(fake: FakeProvider) -> None:
    fake.plan = always("context_length")
    outcome = await Ledger(adapter(fake, "openai")).call(request())
    assert isinstance(outcome, ModelError)
    assert outcome.reason == "context_length"
    assert len(fake.served) == 1


async def test_a_model_that_takes_no_temperature_is_asked_without_from_then_on() -> None:
    seen: list[Any] = []

    def answer(asked: httpx2.Request) -> httpx2.Response:
        body = json.loads(asked.content)
        seen.append(body.get("temperature"))
        if "temperature" in body:
            error = {"message": "Unsupported value: 'temperature'", "param": "temperature", "code": "unsupported_value"}
            return httpx2.Response(400, json={"error": error})
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        return httpx2.Response(200, json={"model": "m", "choices": [choice]})

    provider = opened(ProviderConfig("openai", "openai", KEY), transport=httpx2.MockTransport(answer))
    assert (await provider.complete(request())).text == "hi"
    assert (await provider.complete(request())).text == "hi"
    assert seen == [0.7, None, None]


@pytest.mark.parametrize("name", ["tools", "previous_response_id", "stream", "model"])
async def test_an_option_that_would_change_what_we_rely_on_is_refused(fake: FakeProvider, name: str) -> None:
    error = await failure(adapter(fake, "openai"), request(options={name: "x"}))
    assert error.reason == "invalid_request"
    assert fake.served == []


@pytest.mark.parametrize("api", ["openai", "openai-responses", "anthropic", "google"])
async def test_an_image_in_an_answer_is_a_clear_error_or_no_part_of_the_text(api: Api) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    answers: dict[str, Any] = {
        "openai": {"choices": [{"message": {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}}]},
        "openai-responses": {"status": "completed", "output": [{"type": "image_generation_call", "result": "AAAA"}]},
        "anthropic": {"content": [{"type": "image", "source": {}}], "stop_reason": "end_turn"},
        "google": {"candidates": [{"content": {"parts": [image]}, "finishReason": "STOP"}]},
    }
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answers[api]))
    error = await failure(opened(ProviderConfig(api, api, KEY), transport=transport), request())
    assert error.reason == "unsupported_content"
    assert not error.retryable


async def test_anthropic_has_no_embeddings_and_says_so(fake: FakeProvider) -> None:
    with pytest.raises(ModelError, match="no embeddings"):
        await adapter(fake, "anthropic").embed(EmbedRequest("anthropic", "m", ("hello",)))


async def test_ollama_embeds_and_counts() -> None:
    answer = {"embeddings": [[1.0, 2.0], [3.0, 4.0]], "prompt_eval_count": 7}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))
    reply = await opened(ProviderConfig("o", "ollama"), transport=transport).embed(EmbedRequest("o", "m", ("a", "b")))
    assert (reply.vectors, reply.usage.input_tokens) == (((1.0, 2.0), (3.0, 4.0)), 7)


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    asked: list[str] = []

    def elsewhere(request_: httpx2.Request) -> httpx2.Response:
        asked.append(request_.url.host)
        return httpx2.Response(302, headers={"location": "https://attacker.test/"})

    for api in ("openai", "anthropic", "google", "ollama"):
        provider = opened(
            ProviderConfig(api, api, KEY),
            transport=httpx2.MockTransport(elsewhere),
        )
        await failure(provider, request())
    assert "attacker.test" not in asked


async def test_models_without_tools_decide_in_json(fake: FakeProvider) -> None:
    decision = {"reasoning": "I must look.", "action": "use_tool", "tool": "look_up", "input": {"name": "Ada"}}
    fake.say = lambda body: Say(json.dumps(decision))
    port = DecisionModel(adapter(fake, "openai"))
    made = make_port(ProviderConfig("openai", "openai", KEY, fake.address + "/v1", tools=False))
    assert isinstance(made, DecisionModel)
    reply = await port.complete(request())
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("look_up", {"name": "Ada"})]
    assert "tools" not in fake.served[0].body
    assert fake.served[0].body["response_format"] == {"type": "json_object"}


def test_a_key_is_asked_for_and_never_shown() -> None:
    with pytest.raises(ConfigurationError, match="needs a key"):
        make_provider(ProviderConfig("openai", "openai"))
    assert KEY not in repr(ProviderConfig("openai", "openai", KEY))


def test_no_sdk_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, infra.models.providers; "
        "print([name for name in ('openai', 'anthropic', 'google.genai', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_many_questions_are_under_way_at_once(fake: FakeProvider) -> None:
    provider = adapter(fake, "openai")
    replies = await asyncio.gather(*(provider.complete(request()) for _ in range(50)))
    assert len({reply.reply_id for reply in replies}) == 50
