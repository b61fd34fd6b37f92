"""What a model is to the rest of the house: something that answers a prompt once. Adapters live in `infra/models`.

Streaming and embedding are protocols of their own, so that an adapter without them stays a `ModelPort`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from schemas.catalogue import ToolDefinition
from schemas.chat import ChatMessage, FinishReason, ToolCall, Usage
from schemas.ids import AgentId, ExecutionId, SiteId
from schemas.message import JsonObject

ToolChoice = Literal["auto", "required", "none"]
AnswerFormat = Literal["text", "json"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model. `tools` is empty where it must answer in words; `max_tokens` bounds the answer.

    None as `temperature` or `max_tokens` leaves it to the provider. `must_call` names one tool that must be called.
    `answer_schema` is a JSON Schema of a JSON answer. `options` are fields of the provider's own, set by who runs
    the house and sent as they are; an adapter refuses those that would change what it relies on.
    """

    site_id: SiteId
    agent_id: AgentId
    execution_id: ExecutionId
    step: int
    provider: str
    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolDefinition, ...] = ()
    temperature: float | None = 0.7
    max_tokens: int | None = 4096
    stop: tuple[str, ...] = ()
    tool_choice: ToolChoice = "auto"
    must_call: str | None = None
    answer: AnswerFormat = "text"
    answer_schema: JsonObject | None = None
    options: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One answer. `reply_id` names this very answer, never the question: a second answer is paid for too.

    `provider` and `model` are those that were asked, for the price; `answered_by` is the provider's own name of the
    model, often with a date. `latency_ms` is the adapter's own measure. Where `settled` is false, the provider did
    not say what was spent, and `usage` is empty.
    """

    reply_id: str
    provider: str
    model: str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    latency_ms: int = 0
    answered_by: str = ""
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer that is still being given, for people who watch: text, or arguments of the n-th call."""

    kind: Literal["text", "arguments"]
    text: str
    call: int = 0


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to be turned into vectors. `purpose` helps providers that tell a question from what may answer it."""

    provider: str
    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None
    purpose: Literal["query", "document"] | None = None


@dataclass(frozen=True, slots=True)
class EmbedReply:
    """A vector a text, in their order. Where `settled` is false, the provider did not say what was spent."""

    reply_id: str
    provider: str
    model: str
    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = field(default_factory=Usage)
    latency_ms: int = 0
    settled: bool = True


class ModelPort(Protocol):
    """Answers prompts. One instance serves many runs at once."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the model's answer, asking once: who calls decides on another try.

        Raises:
            ModelError: no useful answer; `retryable` says whether asking again may help.
        """
        ...


class StreamingPort(ModelPort, Protocol):
    """Answers prompts piece by piece."""

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Yield pieces as they come, and at the end the very reply that `complete` would give.

        Raises:
            ModelError: as `complete` does; where the stream was cut, with the usage that is known.
        """
        ...


class EmbeddingPort(Protocol):
    """Turns texts into vectors."""

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        """Return a vector for each text.

        Raises:
            ModelError: no useful answer.
        """
        ...
