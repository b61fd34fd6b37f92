"""Google's Gemini: questions, answers, streams, embeddings.

https://ai.google.dev/api/generate-content. Bodies are what google-genai takes; answers are what the API sends.
"""

import base64
import re
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
    loads,
    mapping,
    not_an_answer,
    reply_of,
    vectors_of,
    words,
)
from processors.models.port import Delta, EmbedReply, EmbedRequest, ModelReply, ModelRequest
from schemas.chat import ChatMessage, FinishReason, Usage
from schemas.errors import InvalidReplyError
from schemas.message import Json, JsonObject

# What the API takes in place of a signature that is not at hand: we keep what was said, not the provider's reasoning.
# https://ai.google.dev/gemini-api/docs/thought-signatures
NO_SIGNATURE = base64.b64encode(b"skip_thought_signature_validator").decode()
_UNSIGNED = re.compile(r"(models/)?gemini-(1|2)[.\-]")

FINISH: dict[Any, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "LANGUAGE": "content_filter",
}
_MALFORMED = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS")
_MODES = {"required": "ANY", "none": "NONE"}
_TASKS = {"query": "RETRIEVAL_QUERY", "document": "RETRIEVAL_DOCUMENT"}


class GeminiDialect:
    """generateContent, streamGenerateContent and embeddings."""

    def __init__(self, provider: str = "google") -> None:
        self.provider = provider

    def body(self, request: ModelRequest) -> JsonObject:
        """Return the arguments of `generate_content`: `model`, `contents`, `config`, and `extra` for the body."""
        config: JsonObject = {}
        system = [{"text": message.content} for message in request.messages if message.role == "system"]
        if system:
            config["system_instruction"] = {"role": "user", "parts": system}
        if request.tools:
            declared = [
                {"name": tool.name, "description": tool.description, "parameters_json_schema": tool.parameters}
                for tool in request.tools
            ]
            config["tools"] = [{"function_declarations": declared}]
            config["automatic_function_calling"] = {"disable": True}
            if request.must_call is not None:
                only = {"mode": "ANY", "allowed_function_names": [request.must_call]}
                config["tool_config"] = {"function_calling_config": only}
            elif request.tool_choice != "auto":
                config["tool_config"] = {"function_calling_config": {"mode": _MODES[request.tool_choice]}}
        if request.temperature is not None:
            config["temperature"] = request.temperature
        if request.max_tokens is not None:
            config["max_output_tokens"] = request.max_tokens
        if request.stop:
            config["stop_sequences"] = list(request.stop)
        if request.answer == "json" or request.answer_schema is not None:
            config["response_mime_type"] = "application/json"
        if request.answer_schema is not None:
            config["response_json_schema"] = request.answer_schema
        signed = _UNSIGNED.match(request.model) is None
        return {
            "model": request.model,
            "contents": _contents(request.messages, signed=signed),
            "config": config,
            "extra": checked_options(request),
        }

    def reply(self, raw: Json, request: ModelRequest) -> ModelReply:
        """Return the text and the calls of the first candidate.

        Raises:
            ModelError: there is none, or it can't be used.
        """
        whole = mapping(raw)
        usage = usage_of(whole.get("usageMetadata"))
        candidates = items(whole.get("candidates"))
        if not candidates:
            if mapping(whole.get("promptFeedback")).get("blockReason"):
                return reply_of(request, text="", finish="content_filter", usage=usage)
            raise not_an_answer(self.provider, "with a candidate", usage)
        candidate = candidates[0]
        texts: list[str] = []
        calls: list[RawCall] = []
        for part in items(mapping(candidate.get("content")).get("parts")):
            if "functionCall" in part:
                call = mapping(part["functionCall"])
                calls.append(RawCall(call.get("id"), call.get("name"), call.get("args")))
            elif "inlineData" in part or "fileData" in part:
                data = mapping(part.get("inlineData") or part.get("fileData"))
                raise left_out(self.provider, str(data.get("mimeType")), usage)
            elif not part.get("thought"):
                texts.append(words(part.get("text")))
        why, text = candidate.get("finishReason"), "".join(texts)
        if why in _MALFORMED:
            raise InvalidReplyError("the call of a tool was malformed", said=text, spent=usage)
        return reply_of(
            request,
            text=text,
            calls=calls,
            finish=FINISH.get(words(why), "stop"),
            usage=usage,
            answered_by=whole.get("modelVersion"),
        )

    def gathering(self, request: ModelRequest) -> "GeminiGathering":
        """Return what puts the chunks together."""
        return GeminiGathering()

    def embed_body(self, request: EmbedRequest) -> JsonObject:
        """Return the arguments of `embed_content`."""
        config: JsonObject = {}
        if request.dimensions is not None:
            config["output_dimensionality"] = request.dimensions
        if request.purpose is not None:
            config["task_type"] = _TASKS[request.purpose]
        contents = [{"parts": [{"text": text}]} for text in request.texts]
        return {"model": request.model, "contents": contents, "config": config}

    def embed_reply(self, raw: Json, request: EmbedRequest) -> EmbedReply:
        """Return the vectors."""
        whole = mapping(raw)
        vectors = [item.get("values") for item in items(whole.get("embeddings"))]
        return vectors_of(request, vectors, usage_of(whole.get("usageMetadata")))


def _contents(messages: tuple[ChatMessage, ...], *, signed: bool) -> list[JsonObject]:
    """Return the turns: the results of tools are parts of one user turn, and name the function they come from."""
    contents: list[JsonObject] = []
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    after_tool = False
    for message in messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = [_result(message, names)] if message.role == "tool" else _parts(message, signed=signed)
        if contents and contents[-1]["role"] == role and (after_tool or message.role == "tool"):
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
        after_tool = message.role == "tool"
    return contents


def _parts(message: ChatMessage, *, signed: bool) -> list[JsonObject]:
    parts: list[JsonObject] = [{"text": message.content}] if message.content or not message.tool_calls else []
    for position, call in enumerate(message.tool_calls):
        part: JsonObject = {"function_call": {"id": call.id, "name": call.name, "args": call.arguments}}
        if signed and position == 0:
            part["thought_signature"] = NO_SIGNATURE
        parts.append(part)
    return parts


def _result(message: ChatMessage, names: dict[str, str]) -> JsonObject:
    try:
        told = loads(message.content)
    except ValueError:
        told = message.content
    response = told if isinstance(told, dict) else {"output": told}
    id_ = message.tool_call_id or ""
    return {"function_response": {"id": id_, "name": names.get(id_, id_), "response": response}}


def usage_of(usage: Json) -> Usage | None:
    """Return the tokens of an answer; None where it does not say. Thoughts are counted beside the candidates."""
    if not isinstance(usage, dict) or not isinstance(usage.get("promptTokenCount"), int):
        return None
    thoughts = count(usage.get("thoughtsTokenCount"))
    return believed(
        Usage(
            input_tokens=count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount")),
            output_tokens=count(usage.get("candidatesTokenCount")) + thoughts,
            cached_tokens=count(usage.get("cachedContentTokenCount")),
            reasoning_tokens=thoughts,
        )
    )


class GeminiGathering:
    """Puts the parts of the first candidate together; each chunk has the usage so far."""

    def __init__(self) -> None:
        self.begun = False
        self._parts: list[JsonObject] = []
        self._calls = 0
        self._last: JsonObject = {}
        self._finish: Any = None

    def add(self, event: JsonObject) -> Iterable[Delta]:
        """Take a chunk."""
        if event.get("error"):
            raise InBandError(event)
        self._last |= {name: value for name, value in event.items() if name != "candidates" and value is not None}
        for candidate in items(event.get("candidates"))[:1]:
            self._finish = candidate.get("finishReason") or self._finish
            for part in items(mapping(candidate.get("content")).get("parts")):
                self.begun = True
                self._parts.append(part)
                if "functionCall" in part:
                    self._calls += 1
                elif not part.get("thought") and words(part.get("text")):
                    yield Delta("text", part["text"])

    def whole(self) -> JsonObject | None:
        """Return the response; None without a reason why it ended."""
        if self._finish is None:
            return dict(self._last) if mapping(self._last.get("promptFeedback")).get("blockReason") else None
        return {**self._last, "candidates": [{"content": {"parts": self._parts}, "finishReason": self._finish}]}

    def spent(self) -> Usage | None:
        """Return the usage so far."""
        return usage_of(self._last.get("usageMetadata"))
