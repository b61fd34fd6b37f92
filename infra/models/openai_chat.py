"""OpenAI's chat completions, which many others speak too: questions, answers, streams, embeddings.

https://platform.openai.com/docs/api-reference/chat
"""

import base64
import struct
from collections.abc import Iterable
from typing import Any

from infra.models.wire import (
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
    vectors_of,
    words,
)
from processors.models.port import Delta, EmbedReply, EmbedRequest, ModelReply, ModelRequest
from schemas.chat import ChatMessage, FinishReason, Usage
from schemas.exact import json_text
from schemas.message import Json, JsonObject

FINISH: dict[Any, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class ChatDialect:
    """Chat completions. `max_tokens_field`: OpenAI's own models want another name than those that follow it."""

    def __init__(self, provider: str = "openai", *, max_tokens_field: str = "max_tokens") -> None:
        self.provider = provider
        self._max_tokens_field = max_tokens_field

    def body(self, request: ModelRequest) -> JsonObject:
        """Return the body of `POST /chat/completions`."""
        body: JsonObject = {"model": request.model, "messages": [_message(m) for m in request.messages]}
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
                }
                for t in request.tools
            ]
            if request.must_call is not None:
                body["tool_choice"] = {"type": "function", "function": {"name": request.must_call}}
            elif request.tool_choice != "auto":
                body["tool_choice"] = request.tool_choice
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            body[self._max_tokens_field] = request.max_tokens
        if request.stop:
            body["stop"] = list(request.stop)
        if request.answer_schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": request.answer_schema},
            }
        elif request.answer == "json":
            body["response_format"] = {"type": "json_object"}
        return {**checked_options(request), **body}

    def reply(self, raw: Json, request: ModelRequest) -> ModelReply:
        """Return the first choice.

        Raises:
            ModelError: there is none, or it can't be used.
        """
        whole = mapping(raw)
        usage = usage_of(whole.get("usage"))
        choices = items(whole.get("choices"))
        if not choices or not isinstance(choices[0].get("message"), dict):
            raise not_an_answer(self.provider, "with a message", usage)
        choice, message = choices[0], choices[0]["message"]
        calls = [_raw_call(call) for call in items(message.get("tool_calls"))]
        if not calls and isinstance(message.get("function_call"), dict):
            calls = [_raw_call({"function": message["function_call"]})]  # the older form, which some still speak
        text, finish = _text(self.provider, message, usage), FINISH.get(words(choice.get("finish_reason")), "stop")
        if not text and not calls and words(message.get("refusal")):
            text, finish = message["refusal"], "content_filter"
        if not text and not calls and message.get("audio"):
            raise left_out(self.provider, "audio", usage)
        return reply_of(request, text=text, calls=calls, finish=finish, usage=usage, answered_by=whole.get("model"))

    def gathering(self, request: ModelRequest) -> "ChatGathering":
        """Return what puts the chunks together."""
        return ChatGathering()

    def embed_body(self, request: EmbedRequest) -> JsonObject:
        """Return the body of `POST /embeddings`."""
        body: JsonObject = {"model": request.model, "input": list(request.texts), "encoding_format": "base64"}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return body

    def embed_reply(self, raw: Json, request: EmbedRequest) -> EmbedReply:
        """Return the vectors, which come as base64 of little-endian floats or as numbers."""
        whole = mapping(raw)
        data = sorted(items(whole.get("data")), key=lambda item: count(item.get("index")))
        try:
            vectors = [_floats(item.get("embedding")) for item in data]
        except (ValueError, struct.error):
            raise not_an_answer(self.provider, "with vectors") from None
        return vectors_of(request, vectors, usage_of(whole.get("usage")))


def _message(message: ChatMessage) -> JsonObject:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": message.content}
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json_text(call.arguments)},
        }
        for call in message.tool_calls
    ]
    return {"role": "assistant", "content": message.content or None, "tool_calls": calls}


def _raw_call(call: JsonObject) -> RawCall:
    function = mapping(call.get("function"))
    return RawCall(call.get("id"), function.get("name"), function.get("arguments"))


def _text(provider: str, message: JsonObject, usage: Usage | None) -> str:
    content = message.get("content")
    if not isinstance(content, list):
        return words(content)
    for part in items(content):
        if part.get("type") not in ("text", "output_text", "refusal", "thinking", "reasoning"):
            raise left_out(provider, str(part.get("type")), usage)
    return "".join(words(part.get("text")) for part in items(content) if part.get("type") in ("text", "output_text"))


def usage_of(usage: Json) -> Usage | None:
    """Return the tokens of an answer; None where it does not say."""
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    return believed(
        Usage(
            input_tokens=count(usage.get("prompt_tokens")),
            output_tokens=count(usage.get("completion_tokens")),
            cached_tokens=count(mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
            reasoning_tokens=count(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        )
    )


def _floats(vector: Json) -> Json:
    if not isinstance(vector, str):
        return vector
    raw = base64.b64decode(vector, validate=True)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


class ChatGathering:
    """Puts the chunks of the first choice together; its usage comes with the last chunk, or in each."""

    def __init__(self) -> None:
        self.begun = False
        self._model: Any = ""
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, JsonObject] = {}
        self._function: JsonObject | None = None
        self._finish: Any = None
        self._usage: Json = None

    def add(self, event: JsonObject) -> Iterable[Delta]:
        """Take a chunk."""
        if event.get("error"):
            raise InBandError(event)
        self._model = event.get("model") or self._model
        self._usage = event.get("usage") or self._usage
        for choice in items(event.get("choices")):
            if not choice.get("index"):
                self._finish = choice.get("finish_reason") or self._finish
                yield from self._delta(mapping(choice.get("delta")))

    def _delta(self, delta: JsonObject) -> Iterable[Delta]:
        if text := words(delta.get("content")):
            self.begun = True
            self._text.append(text)
            yield Delta("text", text)
        self._refusal.append(words(delta.get("refusal")))
        for position, piece in enumerate(items(delta.get("tool_calls"))):
            self.begun = True
            index = piece.get("index")
            index = index if isinstance(index, int) else len(self._calls) + position
            call = self._calls.setdefault(index, {"id": None, "function": {"name": "", "arguments": ""}})
            call["id"] = piece.get("id") or call["id"]
            yield from _grow(call["function"], mapping(piece.get("function")), index)
        if isinstance(delta.get("function_call"), dict):
            self.begun = True
            self._function = self._function or {"name": "", "arguments": ""}
            yield from _grow(self._function, delta["function_call"], 0)

    def whole(self) -> JsonObject | None:
        """Return the chat completion; None without a reason why it ended."""
        if self._finish is None:
            return None
        message = {
            "content": "".join(self._text),
            "refusal": "".join(self._refusal),
            "tool_calls": [self._calls[index] for index in sorted(self._calls)],
            "function_call": self._function,
        }
        return {
            "model": self._model,
            "choices": [{"message": message, "finish_reason": self._finish}],
            "usage": self._usage,
        }

    def spent(self) -> Usage | None:
        """Return the usage, if it was told already."""
        return usage_of(self._usage)


def _grow(function: JsonObject, piece: JsonObject, index: int) -> Iterable[Delta]:
    function["name"] += words(piece.get("name"))
    arguments = words(piece.get("arguments"))
    function["arguments"] += arguments
    if arguments:
        yield Delta("arguments", arguments, index)
