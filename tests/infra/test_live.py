"""What a model says can be watched while it says it; the reply does not depend on it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import HttpUrl, SecretStr

from infra.finding import Found
from infra.live import WAITING, LiveModel, LivePublisher
from infra.models.addresses import ProviderAddress
from infra.models.opening import open_models
from infra.watching import watch_run
from processors.models.port import Delta, ModelReply, ModelRequest
from processors.runtime.process import Process
from schemas.chat import ChatMessage, Usage
from schemas.envelope import EventEnvelope
from schemas.errors import ModelError, UnavailableError
from schemas.events import ExecutionStarted
from schemas.ids import ExecutionId, random_id
from schemas.live import LivePiece
from streams.log import Draft, Position
from streams.memory_log import MemoryLog
from streams.topics import LIVE
from tests.fake_provider import FakeProvider, Say
from tests.processors.asks import activate, create, start
from tests.processors.fakes import Owner, StubContext, StubTools, history, lines, new_log, tell, until
from tests.processors.samples import AGENT, SITE

WORDS = "The quick brown fox jumps over the lazy dog, as foxes do. " * 3


def question(provider: str = "p") -> ModelRequest:
    words = (ChatMessage(role="user", content="hello"),)
    return ModelRequest(SITE, AGENT, ExecutionId("run-1"), 2, provider, "m", words)


class Slow:
    """Says its words one by one; before the last it waits for `gate`. It breaks off without a reply if told so."""

    def __init__(self, *deltas: Delta, cut: bool = False) -> None:
        self.deltas, self.cut, self.gate = deltas, cut, asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        raise AssertionError("it is to be streamed")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        for delta in self.deltas:
            yield delta
        await self.gate.wait()
        if not self.cut:
            text = "".join(delta.text for delta in self.deltas if delta.kind == "text")
            yield ModelReply(random_id(), request.provider, request.model, text, usage=Usage(input_tokens=1))


def pieces(log: MemoryLog) -> list[LivePiece]:
    records = [record for partition in range(log.count(LIVE)) for record in log.records(LIVE, partition)]
    return [LivePiece.model_validate_json(record.value or b"") for record in records]


async def test_a_streamed_answer_is_told_in_pieces_and_whole_at_the_end() -> None:
    log = await new_log()
    async with FakeProvider(say=lambda body: Say(text=WORDS)).running() as fake:
        given = ProviderAddress(
            api="openai", key=SecretStr("sk-test-0123456789"), url=HttpUrl(f"{fake.address}/v1"), stream=True
        )
        async with LivePublisher(log) as live, open_models({"p": given}, (), (), live) as models:
            reply = await models.complete(question())
            await live.flush()
    told = pieces(log)
    assert reply.text == "".join(piece.text for piece in told) == WORDS
    assert reply.usage == fake.told
    assert [piece.position for piece in told] == [*range(len(told))]
    assert told[0].kind == "begun"
    assert {(piece.execution_id, piece.step) for piece in told} == {("run-1", 2)}
    assert fake.served[0].body["stream"] is True


def test_only_the_apis_own_addresses_are_streamed_unless_told_so() -> None:
    url = HttpUrl("http://127.0.0.1:1/v1")
    assert ProviderAddress(api="openai").streams
    assert not ProviderAddress(api="openai", url=url).streams
    assert ProviderAddress(api="openai", url=url, stream=True).streams


async def test_text_and_the_arguments_of_each_call_are_told_apart() -> None:
    log = await new_log()
    slow = Slow(Delta("text", "a"), Delta("text", "b"), Delta("arguments", "{", 0), Delta("arguments", "}", 1))
    slow.gate.set()
    async with LivePublisher(log) as live:
        await LiveModel(slow, live).complete(question())
        await live.flush()
    assert [(p.kind, p.text, p.call) for p in pieces(log)] == [
        ("begun", "", 0),
        ("text", "ab", 0),
        ("arguments", "{", 0),
        ("arguments", "}", 1),
    ]


async def test_a_stream_without_an_end_is_a_failure() -> None:
    slow = Slow(Delta("text", "a"), cut=True)
    slow.gate.set()
    async with LivePublisher(await new_log()) as live:
        with pytest.raises(ModelError) as caught:
            await LiveModel(slow, live).complete(question())
    assert (caught.value.reason, caught.value.unsettled) == ("cut_stream", True)


async def test_an_answer_does_not_need_anybody_to_be_able_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    log = await new_log()

    async def send(topic: str, draft: Draft, *, partition: int | None = None) -> Position:
        raise UnavailableError("no Kafka")

    monkeypatch.setattr(log, "send", send)
    slow = Slow(*[Delta("text", "x" if n % 2 else "y", 0) for n in range(9)], Delta("text", "\ud83d"))
    slow.gate.set()
    async with LivePublisher(log) as live:
        reply = await LiveModel(slow, live).complete(question())
        await live.flush()
        for _ in range(WAITING + 10):
            live.begin(question()).end()
        assert reply.text.startswith("yxyx")
        assert live.dropped >= 10


async def test_a_run_is_watched_from_its_beginning_to_its_end() -> None:
    log = await new_log()
    slow = Slow(Delta("text", "Let me "), Delta("text", "see."))
    seen: list[EventEnvelope | LivePiece] = []

    async def watch(found: Found) -> None:
        async for each in watch_run(log, found):
            seen.append(each)

    def said() -> str:
        return "".join(each.text for each in seen if isinstance(each, LivePiece))

    async with LivePublisher(log, every_s=0.01) as live:
        house = Process(log, LiveModel(slow, live), StubTools(), StubContext(), now_ms=log._clock)
        async with Owner(house, log):
            await tell(log, create(), activate(), start())
            await until(lambda: history(log).all(ExecutionStarted))
            watching = asyncio.create_task(watch(Found(history(log).the(ExecutionStarted).execution_id, AGENT)))
            await until(lambda: said() == "Let me see.")  # before the model has come to its end
            assert "step.thought 1" not in lines(log)
            slow.gate.set()
            await asyncio.wait_for(watching, 10)
    kinds = [each.type if isinstance(each, EventEnvelope) else each.kind for each in seen]
    assert (kinds[0], kinds[-1]) == ("ai.execution.started", "ai.execution.completed")
    assert said() == "Let me see."
