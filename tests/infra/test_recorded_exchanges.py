"""Recorded traffic with real providers goes through the adapters: what they send, and what they make of the answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from infra.models.providers import ProviderConfig, make_provider
from processors.models.port import Delta, EmbedRequest, ModelReply, ModelRequest
from schemas.errors import ModelError
from tests.infra.recorded_answers import answer
from tests.infra.recorded_exceptions import CANNOT_BE_ASKED
from tests.infra.recordings import (
    FOLDER,
    Exchange,
    Meaning,
    NotNeutralError,
    embedding,
    exchanges,
    meaning,
    neutral,
    params,
)

KEY = "sk-test-0123456789abcdef0123456789"
HELLO = Meaning("some-model", turns=[("user", "text", "hello")], max_tokens=100)
PIECE = 37  # bytes: small enough that events and characters are torn apart
# What a status means whose body the tests do not read; which 400 is which, its body says.
REASONS = {401: "auth", 403: "auth", 404: "unknown_model", 429: "rate_limited", 529: "overloaded"}


class Played(httpx2.AsyncBaseTransport):
    """Answers with recorded bytes, in small pieces, and keeps what was asked."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.asked: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.asked.append(request)
        return httpx2.Response(
            self.exchange.status, headers=self.exchange.headers, stream=Torn(self.exchange.response), request=request
        )


class Torn(httpx2.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), PIECE):
            yield self._body[start : start + PIECE]


def adapter(exchange: Exchange) -> tuple[Any, Played]:
    played = Played(exchange)
    config = ProviderConfig(exchange.api, exchange.api.removesuffix("-embed"), KEY)  # type: ignore[arg-type]
    return make_provider(config, transport=played), played


def question(exchange: Exchange) -> tuple[ModelRequest | EmbedRequest, str | None]:
    """Return the neutral request, and why it is not the recorded one, if so."""
    api = exchange.api
    try:
        if api.endswith("-embed"):
            return embedding(api, exchange.request, api), None
        return neutral(meaning(api, exchange.request, model_in(exchange.path)), api), None
    except NotNeutralError as error:
        if api.endswith("-embed"):
            texts = tuple("hello" for _ in exchange.request.get("input") or exchange.request["requests"])
            return EmbedRequest(api, "some-model", texts), str(error)
        return neutral(HELLO, api), str(error)


def model_in(path: str) -> str:
    name = path.rpartition("/models/")[2]
    return name.rpartition(":")[0] if ":" in name else ""


def sent(request: httpx2.Request) -> Any:
    return json.loads(request.content)


async def streamed(provider: Any, request: ModelRequest) -> tuple[str, ModelReply]:
    seen, last = "", None
    async for piece in provider.stream(request):
        assert last is None, "something came after the reply"
        if isinstance(piece, Delta):
            seen += piece.text if piece.kind == "text" else ""
        else:
            last = piece
    assert last is not None
    return seen, last


@pytest.mark.parametrize("exchange", params())
async def test_a_recorded_exchange_goes_through_its_adapter(exchange: Exchange) -> None:
    provider, played = adapter(exchange)
    request, why_not = question(exchange)
    try:
        if isinstance(request, EmbedRequest):
            vectors = await provider.embed(request)
        elif exchange.stream:
            seen, reply = await streamed(provider, request)
        else:
            reply = await provider.complete(request)
    except ModelError as error:
        assert_fails_as_recorded(exchange, error)
    else:
        assert exchange.status == 200
        if isinstance(request, EmbedRequest):
            assert_embeds_as_recorded(exchange, request, vectors)
        else:
            assert_replies_as_recorded(exchange, reply)
            assert not exchange.stream or seen == reply.text
    assert len(played.asked) == 1, "the SDK asked again by itself"
    assert played.asked[0].method == "POST"
    if why_not is None:
        assert_asks_as_recorded(exchange, request, played.asked[0])


def assert_asks_as_recorded(exchange: Exchange, request: Any, asked: httpx2.Request) -> None:
    api = exchange.api
    assert asked.url.path == exchange.path
    if api.endswith("-embed"):
        assert embedding(api, sent(asked), api) == request
        return
    assert meaning(api, sent(asked), model_in(asked.url.path)) == meaning(
        api, exchange.request, model_in(exchange.path)
    )
    assert bool(sent(asked).get("stream")) == (exchange.stream and api != "google")


def assert_replies_as_recorded(exchange: Exchange, reply: ModelReply) -> None:
    said = answer(exchange.api, exchange.response, stream=exchange.stream)
    assert reply.text == said.text
    assert [(call.name, call.arguments) for call in reply.tool_calls] == said.calls
    assert len({call.id for call in reply.tool_calls}) == len(said.calls)
    assert reply.finish_reason == said.finish
    assert reply.usage == said.usage
    assert reply.settled or not said.usage.output_tokens


def assert_embeds_as_recorded(exchange: Exchange, request: EmbedRequest, reply: Any) -> None:
    told = json.loads(exchange.response)
    expected = len(told.get("data") or told["embeddings"])
    assert len(reply.vectors) == expected == len(request.texts)
    assert len({len(vector) for vector in reply.vectors}) == 1
    assert reply.usage.input_tokens == told.get("usage", {}).get("prompt_tokens", 0)
    if request.dimensions is not None:
        assert len(reply.vectors[0]) == request.dimensions
    if "embeddings" in told:
        assert list(reply.vectors[0]) == pytest.approx(told["embeddings"][0]["values"])


def assert_fails_as_recorded(exchange: Exchange, error: ModelError) -> None:
    assert exchange.status != 200, error
    told = exchange.response.decode()
    expected = "unknown_model" if "model_not_found" in told else REASONS.get(exchange.status, "invalid_request")
    if exchange.status == 400 and "does not exist" in told:
        expected = "unknown_model"
    assert (error.reason, error.retryable, error.spent, error.unsettled) == (
        expected,
        expected in ("rate_limited", "overloaded"),
        None,
        False,
    )
    assert KEY not in str(error)


def test_what_can_not_be_asked_is_listed_with_its_reason() -> None:
    found = exchanges()
    if not found:
        pytest.skip(f"there are no recordings at {FOLDER}")
    reasons = {exchange.id: why for exchange in found if (why := question(exchange)[1]) is not None}
    assert reasons == CANNOT_BE_ASKED
