"""A conversation with a model, in no provider's dialect."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.message import JsonObject, Message

TOKENS_LIMIT = 1_000_000_000  # of one kind in one reply: a thousand times what any model takes

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ToolCall(Message):
    """A call that a model asks for. `id` is the model's own name for it, and only used to talk to the model."""

    id: str = Field(max_length=200)
    name: str = Field(max_length=200)
    arguments: JsonObject


class ChatMessage(Message):
    """One message of a prompt. A tool's answer names the call it answers by `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Usage(Message):
    """Tokens of one reply. `cached_tokens` are part of `input_tokens`, `reasoning_tokens` of `output_tokens`.

    More than TOKENS_LIMIT is taken for so many: what a provider says must not be too large for the sums of a table,
    which all sites share.
    """

    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _bound(self) -> Self:
        if max(self.input_tokens, self.output_tokens, self.cached_tokens, self.reasoning_tokens) > TOKENS_LIMIT:
            for name, tokens in self:
                object.__setattr__(self, name, min(tokens, TOKENS_LIMIT))  # no other instance may come of it
        return self
