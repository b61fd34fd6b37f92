"""Ollama's own API: questions, answers, streams of JSON lines, embeddings.

https://github.com/ollama/ollama/blob/main/docs/api.md. `chat` is the rule; `generate` is for models without a chat
template: one prompt, no tools.
"""

from collections.abc import Iterable
from typing import Any, Literal

from infra.models.wire import (
    InBandError,
    RawCall,
    believed,
    checked_options,
    count,
    items,
    mapping,
    not_an_answer,
    reply_of,
    unsayable,
    vectors_of,
    words,
)
from processors.models.port import Delta, EmbedReply, EmbedRequest, ModelReply, ModelRequest
from schemas.chat import ChatMessage, FinishReason, Usage
from schemas.message import Json, JsonObject

Endpoint = Literal["chat", "generate"]
FINISH: dict[Any, FinishReason] = {"stop": "stop", "length": "length"}


class OllamaDialect:
    """`/api/chat` or `/api/generate`, and `/api/embed`. Bodies have the path as `path`."""

    def __init__(self, provider: str = "ollama", endpoint: Endpoint = "chat") -> None:
        self.provider = provider
        self._endpoint = endpoint

    def body(self, request: ModelRequest) -> JsonObject:
        """Return the body, with the path.

        Raises:
            ModelError: the endpoint can't say it.
        """
        body: JsonObject = {"path": f"/api/{self._endpoint}", "model": request.model}
        if self._endpoint == "chat":
            body |= self._conversation(request)
        else:
            body |= self._prompt(request)
        if request.answer_schema is not None:
            body["format"] = request.answer_schema
        elif request.answer == "json":
            body["format"] = "json"
        own = dict(checked_options(request))
        options = dict(mapping(own.pop("options", None)))
        if request.temperature is not None:
            options["temperature"] = request.temperature
        if request.max_tokens is not None:
            options["num_predict"] = request.max_tokens
        if request.stop:
            options["stop"] = list(request.stop)
        if options:
            body["options"] = options
        return {**own, **body}

    def _conversation(self, request: ModelRequest) -> JsonObject:
        if request.tool_choice == "required" or request.must_call is not None:
            raise unsayable(self.provider, "can't be made to call a tool: leave the choice to the model")
        names = {call.id: call.name for message in request.messages for call in message.tool_calls}
        said: JsonObject = {"messages": [_message(message, names) for message in request.messages]}
        if request.tools and request.tool_choice == "auto":
            said["tools"] = [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
                }
                for t in request.tools
            ]
        return said

    def _prompt(self, request: ModelRequest) -> JsonObject:
        asked = [message for message in request.messages if message.role != "system"]
        if request.tools or len(asked) != 1 or asked[0].role != "user":
            raise unsayable(self.provider, "takes one prompt without tools at /api/generate: use its chat endpoint")
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        return {"prompt": asked[0].content} | ({"system": system} if system else {})

    def reply(self, raw: Json, request: ModelRequest) -> ModelReply:
        """Return the message, or the response of a prompt.

        Raises:
            ModelError: there is none, or it can't be used.
        """
        whole = mapping(raw)
        usage = usage_of(whole)
        message = mapping(whole.get("message"))
        if not whole.get("done") or ("message" not in whole and "response" not in whole):
            raise not_an_answer(self.provider, "with a message that is done", usage)
        calls = [
            RawCall(
                call.get("id"),
                mapping(call.get("function")).get("name"),
                mapping(call.get("function")).get("arguments"),
            )
            for call in items(message.get("tool_calls"))
        ]
        return reply_of(
            request,
            text=words(message.get("content")) or words(whole.get("response")),
            calls=calls,
            finish=FINISH.get(words(whole.get("done_reason")), "stop"),
            usage=usage,
            answered_by=whole.get("model"),
        )

    def gathering(self, request: ModelRequest) -> "OllamaGathering":
        """Return what puts the lines together."""
        return OllamaGathering()

    def embed_body(self, request: EmbedRequest) -> JsonObject:
        """Return the body of `/api/embed`."""
        body: JsonObject = {"path": "/api/embed", "model": request.model, "input": list(request.texts)}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return body

    def embed_reply(self, raw: Json, request: EmbedRequest) -> EmbedReply:
        """Return the vectors."""
        whole = mapping(raw)
        vectors = whole.get("embeddings")
        return vectors_of(request, vectors if isinstance(vectors, list) else [], _prompt_usage(whole))


def _message(message: ChatMessage, names: dict[str, str]) -> JsonObject:
    said: JsonObject = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [{"function": {"name": c.name, "arguments": c.arguments}} for c in message.tool_calls]
    if message.role == "tool" and (name := names.get(message.tool_call_id or "")):
        said["tool_name"] = name
    return said


def usage_of(whole: JsonObject) -> Usage | None:
    """Return the tokens of an answer; None where it does not say. A prompt that was read before is not counted."""
    if not isinstance(whole.get("eval_count"), int):
        return None
    return believed(Usage(input_tokens=count(whole.get("prompt_eval_count")), output_tokens=count(whole["eval_count"])))


def _prompt_usage(whole: JsonObject) -> Usage | None:
    read = whole.get("prompt_eval_count")
    return believed(Usage(input_tokens=count(read))) if isinstance(read, int) else None


class OllamaGathering:
    """Puts the lines together; the last one is done and has the usage."""

    def __init__(self) -> None:
        self.begun = False
        self._text: list[str] = []
        self._calls: list[JsonObject] = []
        self._last: JsonObject | None = None

    def add(self, event: JsonObject) -> Iterable[Delta]:
        """Take a line."""
        if event.get("error"):
            raise InBandError(event)
        message = mapping(event.get("message"))
        self._calls += items(message.get("tool_calls"))
        if text := words(message.get("content")) or words(event.get("response")):
            self.begun = True
            self._text.append(text)
            yield Delta("text", text)
        if event.get("done"):
            self._last = event

    def whole(self) -> JsonObject | None:
        """Return the answer; None if it was not done."""
        if self._last is None:
            return None
        return {**self._last, "message": {"content": "".join(self._text), "tool_calls": self._calls}}

    def spent(self) -> Usage | None:
        """Return the usage, which comes with the last line."""
        return None if self._last is None else usage_of(self._last)
