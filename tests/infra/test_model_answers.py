"""Answers that no provider should give: told as failures of a model, metered where it is said what they cost."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from infra.models import wires
from infra.models.providers import ProviderConfig, make_provider
from infra.models.wire import CALLS_OF_AN_ANSWER, MOST_TOKENS
from processors.models.decisions import as_words
from processors.models.port import ModelReply, ModelRequest
from processors.runtime.replies import storable, thought_of
from schemas.chat import ChatMessage, ToolCall, Usage
from schemas.errors import InvalidReplyError, ModelError
from tests.infra.test_model_providers import KEY, request

SPENT = {"prompt_tokens": 3, "completion_tokens": 2}
LONG = 123456789012345678901234567890


def answer(message: dict[str, Any], finish: Any = "stop", usage: Any = None) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"model": "m", "choices": [choice], "usage": usage or SPENT}).encode()


def call(arguments: str, id_: str = "c1") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "look_up", "arguments": arguments}}


def streamed(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chunk(delta: dict[str, Any], finish: Any = None) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 4_096):
        yield body[start : start + 4_096]


async def reply_to(
    body: bytes, asked: ModelRequest | None = None, *, stream: bool = False, encoding: str = "identity"
) -> ModelReply:
    """Return what becomes of an answer with these bytes."""
    headers = {"content-type": "text/event-stream" if stream else "application/json", "content-encoding": encoding}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=pieces(body), headers=headers))
    provider = make_provider(ProviderConfig("openai", "openai", KEY, "http://provider/v1"), transport=transport)
    try:
        if not stream:
            return await provider.complete(asked or request())
        *_, last = [piece async for piece in provider.stream(asked or request())]
        assert isinstance(last, ModelReply)
        return last
    finally:
        await provider.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"choices": [{"message": {"content": ' + b"[" * 2_000 + b"]" * 2_000 + b"}}]}",
    ],
)
async def test_an_answer_that_is_nested_without_end_is_none(body: bytes) -> None:
    with pytest.raises(ModelError) as told:
        await reply_to(body)
    assert (told.value.retryable, told.value.unsettled) == (True, True)


@pytest.mark.parametrize("event", [[1], 5, None, "words", {"choices": [5]}])
async def test_a_piece_of_a_stream_that_is_none_is_told(event: object) -> None:
    with pytest.raises(ModelError) as told:
        await reply_to(streamed(event), stream=True)
    assert (told.value.retryable, told.value.unsettled) == (True, True)


@pytest.mark.parametrize("finish", [{"a": 1}, ["stop"], 5, None])
async def test_a_reason_that_is_no_word_does_not_lose_what_was_spent(finish: object) -> None:
    reply = await reply_to(answer({"content": "Done."}, finish))
    assert (reply.finish_reason, reply.usage) == ("stop", Usage(input_tokens=3, output_tokens=2))


@pytest.mark.parametrize("tokens", [MOST_TOKENS + 1, 2**62, 10**30])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
async def test_more_tokens_than_there_are_is_no_usage(name: str, tokens: int) -> None:
    reply = await reply_to(answer({"content": "Done."}, usage=SPENT | {name: tokens}))
    assert (reply.settled, reply.usage) == (False, Usage())


async def test_halves_of_a_character_come_together_and_others_are_marked() -> None:
    reply = await reply_to(
        streamed(chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b\ud800"}, "stop")), stream=True
    )
    assert reply.text == "a\U0001f600b\ufffd"
    assert storable(thought_of(request(), reply))[1] is None


@pytest.mark.parametrize("value", ['"\\ud800"', "1e999", "[" * 900 + "]" * 900, "NaN"])
async def test_arguments_that_cant_be_kept_are_told_to_the_model(value: str) -> None:
    with pytest.raises(InvalidReplyError) as told:
        await reply_to(answer({"content": "\ud800", "tool_calls": [call('{"name": ' + value + "}")]}))
    assert told.value.spent == Usage(input_tokens=3, output_tokens=2)
    told.value.said.encode()


async def test_more_calls_than_one_answer_may_have_are_told_to_the_model() -> None:
    many = [call("{}", f"c{number}") for number in range(CALLS_OF_AN_ANSWER + 1)]
    with pytest.raises(InvalidReplyError, match="it calls tools 201 times; 200 calls may stand in one answer") as told:
        await reply_to(answer({"content": "All at once.", "tool_calls": many}))
    assert (told.value.said, told.value.spent) == ("All at once.", Usage(input_tokens=3, output_tokens=2))
    assert len((await reply_to(answer({"tool_calls": many[1:]}))).tool_calls) == CALLS_OF_AN_ANSWER


async def test_each_call_has_an_id_of_its_own() -> None:
    ids = ["call_1_1", "call_1_1", "call_1_1", "", "call_1_3"]
    reply = await reply_to(answer({"tool_calls": [call("{}", id_) for id_ in ids]}))
    assert len({each.id for each in reply.tool_calls}) == len(ids)
    assert reply.tool_calls[0].id == "call_1_1"


async def test_a_call_with_a_number_beyond_64_bits_can_be_shown_to_its_model_again() -> None:
    reply = await reply_to(answer({"tool_calls": [call(f'{{"name": {LONG}}}')]}))
    assert reply.tool_calls[0].arguments == {"name": LONG}
    said = ChatMessage(role="assistant", content="", tool_calls=(ToolCall(id="c", name="t", arguments={"n": LONG}),))
    asked = request(messages=(*request().messages, said, ChatMessage(role="tool", content="{}", tool_call_id="c")))
    assert (await reply_to(answer({"content": "Done."}), asked)).text == "Done."
    assert str(LONG) in "".join(message.content for message in as_words(asked).messages)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    text = {"content": "x" * 20_000}
    whole = streamed(chunk(text), chunk({}, "stop")) if stream else answer(text)
    assert len((await reply_to(whole, stream=stream)).text) == 20_000
    monkeypatch.setattr(wires, "ANSWER_BYTES", 20_000)
    with pytest.raises(ModelError) as told:
        await reply_to(whole, stream=stream)
    assert (told.value.reason, told.value.unsettled) == ("cut_stream", True)


async def test_a_packed_answer_is_not_unpacked() -> None:
    with pytest.raises(ModelError) as told:
        await reply_to(gzip.compress(answer({"content": "Done."})), encoding="gzip")
    assert (told.value.reason, told.value.unsettled) == ("cut_stream", True)
