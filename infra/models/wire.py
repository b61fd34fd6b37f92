"""What all adapters share: how a provider's answer becomes ours, whatever it was made of."""

import itertools
import json
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from pydantic import ValidationError

from processors.models.port import Delta, EmbedReply, EmbedRequest, ModelReply, ModelRequest
from schemas.chat import FinishReason, ToolCall, Usage
from schemas.errors import InvalidReplyError, ModelError
from schemas.exact import json_text
from schemas.ids import random_id
from schemas.message import Json, JsonObject

JSON_ONLY = "Answer with one JSON value and nothing else: no fence, no words around it."

CALLS_OF_AN_ANSWER = 200  # each leads to events, and those of one answer have a limit
MOST_TOKENS = 100_000_000  # of one question and its answer, some fifty times what any model takes: more is a mistake

# Fields that would let a provider act by itself, keep the conversation, or answer in another shape than we read:
# what the model saw and did must stand in the log.
REFUSED_OPTIONS = frozenset(
    {
        "model", "messages", "input", "contents", "system", "instructions", "prompt", "stream", "stream_options",
        "tools", "functions", "tool_choice", "function_call", "tool_config", "toolConfig", "plugins",
        "web_search_options", "mcp_servers", "container", "previous_response_id", "conversation", "background",
        "store", "cached_content", "cachedContent", "modalities", "audio", "response_modalities",
    }
)  # fmt: skip


class Gathering(Protocol):
    """Puts the pieces of one streamed answer together."""

    def add(self, event: JsonObject) -> Iterable[Delta]:
        """Take one piece; return what people may see of it.

        Raises:
            InBandError: the piece says that the answer failed.
        """
        ...

    def whole(self) -> JsonObject | None:
        """Return what the provider would have answered without streaming; None if its end did not come."""
        ...

    def spent(self) -> Usage | None:
        """Return the usage that was told so far."""
        ...


class Dialect(Protocol):
    """A provider's language, both ways. Pure."""

    provider: str

    def body(self, request: ModelRequest) -> JsonObject:
        """Return the question in the provider's words.

        Raises:
            ModelError: it can't be said in them.
        """
        ...

    def reply(self, raw: Json, request: ModelRequest) -> ModelReply:
        """Return the answer in our words.

        Raises:
            ModelError: it is not an answer; InvalidReplyError where the model is at fault.
        """
        ...

    def gathering(self, request: ModelRequest) -> Gathering:
        """Return what puts a streamed answer together."""
        ...

    def embed_body(self, request: EmbedRequest) -> JsonObject:
        """Return the texts in the provider's words.

        Raises:
            ModelError: the provider has no embeddings.
        """
        ...

    def embed_reply(self, raw: Json, request: EmbedRequest) -> EmbedReply:
        """Return the vectors.

        Raises:
            ModelError: it is not an answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with an error.

    `status` 0: there was no answer; `reached`: the question may have arrived; `late`: a time ran out.
    """

    status: int
    headers: Mapping[str, str]
    body: Json
    reached: bool = True
    late: bool = False


class InBandError(Exception):
    """A stream that began well says that it failed."""

    def __init__(self, body: Json) -> None:
        super().__init__("the stream says that it failed")
        self.body = body


class Wire(Protocol):
    """Carries a dialect's words there and back, asking once. What it raises, `refusal` explains."""

    errors: tuple[type[Exception], ...]

    async def ask(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        ...

    def events(self, body: JsonObject) -> AsyncIterator[JsonObject]:
        """Yield the decoded pieces of a streamed answer."""
        ...

    async def embed(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        ...

    def refusal(self, error: Exception) -> Refusal:
        """Return what one of `errors` says."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class RawCall:
    """A tool call as a provider gave it; `arguments` is JSON text or an object."""

    id: Any
    name: Any
    arguments: Any


def reply_of(
    request: ModelRequest,
    *,
    text: str,
    calls: Sequence[RawCall] = (),
    finish: FinishReason,
    usage: Usage | None,
    answered_by: Any = "",
) -> ModelReply:
    """Return the reply, its calls validated.

    Raises:
        InvalidReplyError: a call has no name, or arguments that are not a JSON object; or there are too many.
    """
    if len(calls) > CALLS_OF_AN_ANSWER:
        problem = f"it calls tools {len(calls):,} times; {CALLS_OF_AN_ANSWER} calls may stand in one answer"
        raise InvalidReplyError(problem, said=_whole_characters(text), spent=usage)
    taken: list[ToolCall] = []
    ids: set[str] = set()
    for position, call in enumerate(calls):
        problem = f"the arguments of the call of {str(call.name)[:80]!r} are not a JSON object"
        if finish == "length":
            problem += ", because the answer was cut at its longest length: say less"
        try:
            arguments = _object(call.arguments)
            id_ = call.id if isinstance(call.id, str) and call.id else f"call_{request.step}_{position}"
            if id_ in ids:
                id_ = next(other for other in _ids(f"call_{request.step}_{position}") if other not in ids)
            if not call.name:
                problem = "a call does not name its tool"
                raise ValueError(problem)  # noqa: TRY301 - all that is wrong with a call is told in one place
            taken.append(ToolCall(id=id_, name=call.name, arguments=arguments))
            taken[-1].encode()
            ids.add(id_)
        except (ValueError, ValidationError, RecursionError):
            said = "\n".join([text, *(f"[call of {c.name} with {_shown(c.arguments)}]" for c in calls)]).strip()
            raise InvalidReplyError(problem, said=_whole_characters(said), spent=usage) from None
    if taken and finish == "stop":
        finish = "tool_calls"
    elif finish == "tool_calls" and not taken:
        finish = "stop"
    return ModelReply(
        reply_id=random_id(),
        provider=request.provider,
        model=request.model,
        text=_whole_characters(text),
        tool_calls=tuple(taken),
        finish_reason=finish,
        usage=usage or Usage(),
        answered_by=answered_by if isinstance(answered_by, str) else "",
        settled=usage is not None,
    )


def _ids(first: str) -> Iterator[str]:
    yield first
    yield from (f"{first}_{number}" for number in itertools.count(2))


def _whole_characters(text: str) -> str:
    """Return `text` with the halves of characters that came in two pieces together, and U+FFFD for any other half."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _object(arguments: Any) -> JsonObject:
    if arguments is None or arguments == "":
        return {}  # how some say: without arguments
    value = loads(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - as for text that is not JSON
    return value


def _shown(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json_text(arguments)


def loads(text: str | bytes) -> Json:
    """Return the JSON value in `text`.

    Raises:
        ValueError: it is none; NaN, infinities, and what is nested too deeply are none.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is too large a number")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def count(value: Any) -> int:
    """Return a number of tokens; 0 where there is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def believed(usage: Usage) -> Usage | None:
    """Return what a provider said was spent; None where no answer can have cost so much."""
    counted = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
    return None if max(counted) > MOST_TOKENS else usage


def mapping(value: Any) -> JsonObject:
    """Return `value` if it is a JSON object, otherwise an empty one: for fields that may be null or missing."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[JsonObject]:
    """Return the objects in a list that may be null or missing."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def words(value: Any) -> str:
    """Return a text that may be null or missing."""
    return value if isinstance(value, str) else ""


def not_an_answer(provider: str, what: str, spent: Usage | None = None) -> ModelError:
    """Return the error of an answer that is none, such as a proxy's page."""
    return ModelError(
        f"{provider!r} answered, but not {what}",
        reason="unavailable",
        retryable=True,
        spent=spent,
        unsettled=spent is None,
    )


def unsayable(provider: str, what: str) -> ModelError:
    """Return the error of a question that a provider has no words for."""
    return ModelError(f"{provider!r} {what}", reason="invalid_request", retryable=False)


def left_out(provider: str, kind: str, spent: Usage | None) -> ModelError:
    """Return the error of an answer with something that is not text."""
    return ModelError(
        f"{provider!r} answered with {kind[:40]!r}; only text and tool calls are read: ask for text",
        reason="unsupported_content",
        retryable=False,
        spent=spent,
        unsettled=spent is None,
    )


def checked_options(request: ModelRequest) -> JsonObject:
    """Return the request's own options.

    Raises:
        ModelError: one of them would change what we rely on.
    """
    for name in request.options:
        if name in REFUSED_OPTIONS:
            raise unsayable(request.provider, f"may not be given the option {name!r}: take it out of the options")
    return request.options


def vectors_of(request: EmbedRequest, vectors: Sequence[Any], usage: Usage | None) -> EmbedReply:
    """Return the reply with these vectors.

    Raises:
        ModelError: it is not a vector of numbers for each text.
    """
    taken = []
    for vector in vectors:
        if not isinstance(vector, list) or not vector or not all(isinstance(x, int | float) for x in vector):
            raise not_an_answer(request.provider, "with vectors of numbers", usage)
        taken.append(tuple(float(x) for x in vector))
    if len(taken) != len(request.texts):
        raise not_an_answer(request.provider, f"with {len(request.texts)} vectors, but {len(taken)}", usage)
    return EmbedReply(
        reply_id=random_id(),
        provider=request.provider,
        model=request.model,
        vectors=tuple(taken),
        usage=usage or Usage(),
        settled=usage is not None,
    )
