"""What a model is to the rest of the house: something that answers a prompt once. Adapters live in `infra/models`.

Streaming and embedding will be protocols of their own, so that an adapter without them stays a `ModelPort`.
"""

from dataclasses import dataclass, field
from typing import Protocol

from schemas.catalogue import ToolDefinition
from schemas.chat import ChatMessage, FinishReason, ToolCall, Usage
from schemas.ids import AgentId, ExecutionId, SiteId


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model. `tools` is empty where it must answer in words; `max_tokens` bounds the answer."""

    site_id: SiteId
    agent_id: AgentId
    execution_id: ExecutionId
    step: int
    provider: str
    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolDefinition, ...] = ()
    temperature: float = 0.7
    max_tokens: int = 4096


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One answer. `reply_id` names this very answer, never the question: a second answer is paid for too.

    `provider` and `model` are those that answered, for the price; `latency_ms` is the adapter's own measure.
    """

    reply_id: str
    provider: str
    model: str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    latency_ms: int = 0


class ModelPort(Protocol):
    """Answers prompts. One instance serves many runs at once."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the model's answer, asking once: who calls decides on another try.

        Raises:
            ModelError: no useful answer; `retryable` says whether asking again may help.
        """
        ...
