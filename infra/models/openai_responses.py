"""OpenAI's responses API. Nothing is kept at the provider: each question has the whole conversation.

https://platform.openai.com/docs/api-reference/responses
"""

from collections.abc import Iterable
from typing import Any

from infra.models.openai_chat import ChatDialect
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
    unsayable,
    words,
)
from processors.models.failures import refused
from processors.models.port import Delta, EmbedReply, EmbedRequest, ModelReply, ModelRequest
from schemas.chat import ChatMessage, FinishReason, Usage
from schemas.exact import json_text
from schemas.message import Json, JsonObject

_ENDED = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class ResponsesDialect:
    """Responses."""

    def __init__(self, provider: str = "openai") -> None:
        self.provider = provider
        self._embeddings = ChatDialect(provider)

    def body(self, request: ModelRequest) -> JsonObject:
        """Return the body of `POST /responses`.

        Raises:
            ModelError: there are stop texts, which this API does not know.
        """
        if request.stop:
            raise unsayable(self.provider, "knows no stop texts in its responses API: use its chat completions")
        body: JsonObject = {"model": request.model, "store": False}
        body["input"] = [item for message in request.messages for item in _items(message)]
        if request.tools:
            # Not strict: that would refuse every schema with an optional parameter; arguments are validated here.
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": False,
                }
                for tool in request.tools
            ]
            if request.must_call is not None:
                body["tool_choice"] = {"type": "function", "name": request.must_call}
            elif request.tool_choice != "auto":
                body["tool_choice"] = request.tool_choice
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            body["max_output_tokens"] = request.max_tokens
        if request.answer_schema is not None:
            schema = {"type": "json_schema", "name": "answer", "schema": request.answer_schema, "strict": False}
            body["text"] = {"format": schema}
        elif request.answer == "json":
            body["text"] = {"format": {"type": "json_object"}}
        return {**checked_options(request), **body}

    def reply(self, raw: Json, request: ModelRequest) -> ModelReply:
        """Return the text and the function calls of the output.

        Raises:
            ModelError: it failed, is not ended, or can't be used.
        """
        whole = mapping(raw)
        usage = usage_of(whole.get("usage"))
        if whole.get("status") == "failed":
            error = refused(self.provider, 200, {}, {"error": whole.get("error")}, now_s=0.0)
            error.spent, error.unsettled = usage, usage is None
            raise error
        if not isinstance(whole.get("output"), list) or whole.get("status") not in ("completed", "incomplete", None):
            raise not_an_answer(self.provider, "with an output that is ended", usage)
        finish: FinishReason = "stop"
        if whole.get("status") == "incomplete":
            why = mapping(whole.get("incomplete_details")).get("reason")
            finish = "content_filter" if why == "content_filter" else "length"
        texts: list[str] = []
        refusals: list[str] = []
        calls: list[RawCall] = []
        for item in items(whole["output"]):
            match item.get("type"):
                case "message":
                    texts += [words(p.get("text")) for p in items(item.get("content")) if p.get("type") != "refusal"]
                    refusals += [words(p.get("refusal")) for p in items(item.get("content"))]
                case "function_call":
                    calls.append(RawCall(item.get("call_id"), item.get("name"), item.get("arguments")))
                case "image_generation_call":
                    raise left_out(self.provider, "an image", usage)
        text = "".join(texts)
        if not text and not calls and any(refusals):
            text, finish = "".join(refusals), "content_filter"
        return reply_of(request, text=text, calls=calls, finish=finish, usage=usage, answered_by=whole.get("model"))

    def gathering(self, request: ModelRequest) -> "ResponsesGathering":
        """Return what waits for the last event, which has the whole response."""
        return ResponsesGathering()

    def embed_body(self, request: EmbedRequest) -> JsonObject:
        """Return the body of `POST /embeddings`."""
        return self._embeddings.embed_body(request)

    def embed_reply(self, raw: Json, request: EmbedRequest) -> EmbedReply:
        """Return the vectors."""
        return self._embeddings.embed_reply(raw, request)


def _items(message: ChatMessage) -> Iterable[JsonObject]:
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.tool_call_id or "", "output": message.content}
        return
    if message.content or not message.tool_calls:
        yield {"role": message.role, "content": message.content}
    for call in message.tool_calls:
        arguments = json_text(call.arguments)
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}


def usage_of(usage: Json) -> Usage | None:
    """Return the tokens of an answer; None where it does not say."""
    if not isinstance(usage, dict) or not isinstance(usage.get("input_tokens"), int):
        return None
    return believed(
        Usage(
            input_tokens=count(usage.get("input_tokens")),
            output_tokens=count(usage.get("output_tokens")),
            cached_tokens=count(mapping(usage.get("input_tokens_details")).get("cached_tokens")),
            reasoning_tokens=count(mapping(usage.get("output_tokens_details")).get("reasoning_tokens")),
        )
    )


class ResponsesGathering:
    """Passes deltas on, and keeps the finished items: some providers leave them out of the last event."""

    def __init__(self) -> None:
        self.begun = False
        self._items: dict[int, JsonObject] = {}
        self._response: JsonObject | None = None

    def add(self, event: JsonObject) -> Iterable[Delta]:
        """Take an event."""
        kind: Any = event.get("type")
        if kind == "error":
            raise InBandError({"error": event.get("error") or event})
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self.begun = True
            yield Delta("text", words(event.get("delta")))
        elif kind == "response.function_call_arguments.delta":
            self.begun = True
            yield Delta("arguments", words(event.get("delta")), count(event.get("output_index")))
        elif kind == "response.output_item.done":
            self._items[count(event.get("output_index"))] = mapping(event.get("item"))
        elif kind in _ENDED:
            self._response = mapping(event.get("response"))

    def whole(self) -> JsonObject | None:
        """Return the response; None if its last event did not come."""
        if self._response is None or self._response.get("output"):
            return self._response
        return {**self._response, "output": [self._items[index] for index in sorted(self._items)]}

    def spent(self) -> Usage | None:
        """Return the usage, which comes with the last event."""
        return usage_of(mapping(self._response).get("usage"))
