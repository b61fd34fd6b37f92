"""Anthropic's messages: questions, answers, streams. It has no embeddings.

https://docs.anthropic.com/en/api/messages
"""

from collections.abc import Iterable
from typing import Any

from infra.models.wire import (
    JSON_ONLY,
    InBandError,
    RawCall,
    believed,
    checked_options,
    count,
    items,
    left_out,
    mapping,
    not_an_answer,
    reply_of,
    unsayable,
    words,
)
from processors.models.port import Delta, EmbedReply, EmbedRequest, ModelReply, ModelRequest
from schemas.chat import ChatMessage, FinishReason, Usage
from schemas.message import Json, JsonObject

MAX_TOKENS = 4096  # it must be told; what our agents have by default

FINISH: dict[Any, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_CHOICES = {"required": "any", "none": "none"}


class MessagesDialect:
    """Messages."""

    def __init__(self, provider: str = "anthropic") -> None:
        self.provider = provider

    def body(self, request: ModelRequest) -> JsonObject:
        """Return the body of `POST /v1/messages`.

        All system messages go where this API has its system prompt, in their order, a block each. Results of tools
        are blocks of one user message, as they must follow the calls together.
        """
        system = [{"type": "text", "text": m.content} for m in request.messages if m.role == "system" and m.content]
        if request.answer == "json" and request.answer_schema is None:
            system.append({"type": "text", "text": JSON_ONLY})
        body: JsonObject = {
            "model": request.model,
            "max_tokens": request.max_tokens or MAX_TOKENS,
            "messages": _turns(request.messages),
        }
        if system:
            body["system"] = system
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in request.tools
            ]
            if request.must_call is not None:
                body["tool_choice"] = {"type": "tool", "name": request.must_call}
            elif request.tool_choice != "auto":
                body["tool_choice"] = {"type": _CHOICES[request.tool_choice]}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        options = dict(checked_options(request))
        if request.answer_schema is not None:
            answer = {"type": "json_schema", "schema": request.answer_schema}
            body["output_config"] = {**mapping(options.get("output_config")), "format": answer}
        return {**options, **body}

    def reply(self, raw: Json, request: ModelRequest) -> ModelReply:
        """Return the text and the calls of the content.

        Raises:
            ModelError: there is none, or it can't be used.
        """
        whole = mapping(raw)
        usage = usage_of(whole.get("usage"))
        if not isinstance(whole.get("content"), list):
            raise not_an_answer(self.provider, "with content", usage)
        texts: list[str] = []
        calls: list[RawCall] = []
        for block in items(whole["content"]):
            match block.get("type"):
                case "text":
                    texts.append(words(block.get("text")))
                case "tool_use":
                    calls.append(RawCall(block.get("id"), block.get("name"), block.get("input")))
                case "image" | "document" as kind:
                    raise left_out(self.provider, kind, usage)
        return reply_of(
            request,
            text="".join(texts),
            calls=calls,
            finish=FINISH.get(words(whole.get("stop_reason")), "stop"),
            usage=usage,
            answered_by=whole.get("model"),
        )

    def gathering(self, request: ModelRequest) -> "MessagesGathering":
        """Return what puts the events together."""
        return MessagesGathering()

    def embed_body(self, request: EmbedRequest) -> JsonObject:
        """Raise: there are no embeddings."""
        raise unsayable(self.provider, "has no embeddings: use another provider for them")

    def embed_reply(self, raw: Json, request: EmbedRequest) -> EmbedReply:
        """Raise: there are no embeddings."""
        raise unsayable(self.provider, "has no embeddings: use another provider for them")


def _turns(messages: tuple[ChatMessage, ...]) -> list[JsonObject]:
    turns: list[JsonObject] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if not blocks:
            continue  # an empty text is refused
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: ChatMessage) -> list[JsonObject]:
    if message.role == "tool":
        content = [{"type": "text", "text": message.content}] if message.content else []
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": content}]
    blocks: list[JsonObject] = [{"type": "text", "text": message.content}] if message.content.strip() else []
    for call in message.tool_calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})
    return blocks


def usage_of(usage: Json) -> Usage | None:
    """Return the tokens of an answer; None where it does not say.

    This API counts what it read from its cache, or wrote there, beside the input; we count it as input.
    """
    if not isinstance(usage, dict) or not isinstance(usage.get("output_tokens"), int):
        return None
    cached = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    return believed(
        Usage(
            input_tokens=count(usage.get("input_tokens")) + cached + written,
            output_tokens=count(usage.get("output_tokens")),
            cached_tokens=cached,
            reasoning_tokens=count(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
        )
    )


class MessagesGathering:
    """Puts the blocks together; the usage is told at the beginning, and made whole at the end."""

    def __init__(self) -> None:
        self.begun = False
        self._message: JsonObject = {}
        self._blocks: dict[int, JsonObject] = {}
        self._calls: dict[int, int] = {}
        self._usage: JsonObject = {}
        self._ended = False

    def add(self, event: JsonObject) -> Iterable[Delta]:
        """Take an event."""
        index = count(event.get("index"))
        match event.get("type"):
            case "error":
                raise InBandError(event)
            case "message_start":
                self._message = mapping(event.get("message"))
                self._usage = dict(mapping(self._message.get("usage")))
            case "content_block_start":
                self.begun = True
                yield from self._start(index, mapping(event.get("content_block")))
            case "content_block_delta":
                yield from self._grow(index, mapping(event.get("delta")))
            case "message_delta":
                self._message = {**self._message, **mapping(event.get("delta"))}
                fresh = mapping(event.get("usage"))
                self._usage |= {name: value for name, value in fresh.items() if value is not None}
            case "message_stop":
                self._ended = True

    def _start(self, index: int, block: JsonObject) -> Iterable[Delta]:
        self._blocks[index] = dict(block)
        if block.get("type") == "tool_use":
            self._calls[index] = len(self._calls)
            if not block.get("input"):
                self._blocks[index]["input"] = ""
        if block.get("type") == "text" and (text := words(block.get("text"))):
            yield Delta("text", text)

    def _grow(self, index: int, delta: JsonObject) -> Iterable[Delta]:
        block = self._blocks.get(index, {})
        if delta.get("type") == "text_delta" and block.get("type") == "text":
            block["text"] = words(block.get("text")) + words(delta.get("text"))
            yield Delta("text", words(delta.get("text")))
        elif delta.get("type") == "input_json_delta" and block.get("type") == "tool_use":
            piece = words(delta.get("partial_json"))
            block["input"] = words(block.get("input")) + piece
            if piece:
                yield Delta("arguments", piece, self._calls[index])

    def whole(self) -> JsonObject | None:
        """Return the message; None if its end did not come."""
        if not self._ended or self._message.get("stop_reason") is None:
            return None
        content = [self._blocks[index] for index in sorted(self._blocks)]
        return {**self._message, "content": content, "usage": self._usage}

    def spent(self) -> Usage | None:
        """Return the usage so far: the input's is told at once."""
        return usage_of(self._usage)
