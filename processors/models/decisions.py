"""The JSON decision format, for models without tool calls of their own: prompt text, parsing, validation.

    {"reasoning": "...", "action": "use_tool" | "finish", "tool": "...", "input": {...}, "confidence": 0.0-1.0}

A request with tools becomes one without: the tools stand in a system message, earlier calls are shown in this
format, and their results are the user's words. A reply becomes a thought only if every field is what it must be.
"""

from dataclasses import replace
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from processors.models.port import ModelPort, ModelReply, ModelRequest
from schemas.catalogue import ToolDefinition
from schemas.chat import ChatMessage, ToolCall
from schemas.errors import InvalidReplyError
from schemas.exact import json_text
from schemas.message import JsonObject

_FORMAT = """Answer with one JSON object and nothing else, in this format:
{"reasoning": "why, step by step", "action": "use_tool" or "finish", "tool": "the tool's name", \
"input": {the tool's parameters}, "confidence": a number from 0.0 to 1.0}
With action "finish", leave out tool and input, and put your whole final answer into reasoning."""

_FENCE = "```"


class Decision(BaseModel):
    """What a model decided."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reasoning: str
    action: Literal["use_tool", "finish"]
    tool: str | None = Field(default=None, max_length=200)
    input: JsonObject | None = None
    confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None


def tools_text(tools: tuple[ToolDefinition, ...]) -> str:
    """Return how tools and the format are explained to a model."""
    lines = ["## Tools"]
    for tool in tools:
        parameters = orjson.dumps(tool.parameters).decode()
        lines.append(f"- {tool.name}: {tool.description}\n  parameters (JSON Schema): {parameters}")
    return "\n".join(lines) + "\n\n## How to answer\n" + _FORMAT


def as_words(request: ModelRequest) -> ModelRequest:
    """Return the request without tool calls; one that offers no tools and shows no calls stays as it is."""
    if not request.tools and not any(m.tool_calls or m.role == "tool" for m in request.messages):
        return request
    messages = [_in_words(message) for message in request.messages]
    if not request.tools:
        return replace(request, messages=tuple(messages), tool_choice="auto", must_call=None)
    head = 0
    while head < len(messages) and messages[head].role == "system":
        head += 1
    messages.insert(head, ChatMessage(role="system", content=tools_text(request.tools)))
    return replace(
        request,
        messages=tuple(messages),
        tools=(),
        tool_choice="auto",
        must_call=None,
        answer="json",
        answer_schema=None,
    )


def _in_words(message: ChatMessage) -> ChatMessage:
    if message.role == "tool":
        return ChatMessage(role="user", content=f"Result of the tool ({message.tool_call_id}): {message.content}")
    if not message.tool_calls:
        return message
    said = [
        {"reasoning": message.content, "action": "use_tool", "tool": call.name, "input": call.arguments}
        for call in message.tool_calls
    ]
    return ChatMessage(role="assistant", content="\n".join(map(json_text, said)))


def parse(text: str, tools: tuple[ToolDefinition, ...]) -> Decision:
    """Return the decision in a model's answer; one fence of code around it is forgiven.

    Raises:
        ValueError: it is not one; the message tells the model why.
    """
    body = text.strip()
    if body.startswith(_FENCE) and body.endswith(_FENCE) and "\n" in body:
        body = body[body.index("\n") : -len(_FENCE)].strip()
    try:
        decision = Decision.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{where + ': ' if where else ''}{first['msg']}") from None
    if decision.action == "finish":
        if decision.tool is not None:
            raise ValueError('with action "finish" there is no tool')
        return decision
    names = [tool.name for tool in tools]
    if decision.tool not in names:
        raise ValueError(f"tool: must be one of {', '.join(names)}")
    if decision.input is None:
        raise ValueError('input: must be an object with action "use_tool"')
    return decision


def as_thought(reply: ModelReply, request: ModelRequest) -> ModelReply:
    """Return the reply to `as_words(request)` as a reply to `request`.

    Raises:
        InvalidReplyError: it is not a decision.
    """
    if not request.tools or reply.finish_reason == "content_filter":
        return reply
    try:
        decision = parse(reply.text, request.tools)
    except ValueError as error:
        spent = reply.usage if reply.settled else None
        raise InvalidReplyError(str(error), said=reply.text, spent=spent) from None
    if decision.action == "finish":
        return replace(reply, text=decision.reasoning, finish_reason="stop")
    call = ToolCall(id=f"call_{request.step}_0", name=decision.tool or "", arguments=decision.input or {})
    return replace(reply, text=decision.reasoning, tool_calls=(call,), finish_reason="tool_calls")


class DecisionModel:
    """A `ModelPort` that lets a model without tool calls use tools, by the JSON decision format."""

    def __init__(self, port: ModelPort) -> None:
        self._port = port

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Ask in words, and read the decision.

        Raises:
            ModelError: as the port says; InvalidReplyError where the answer is not a decision.
        """
        return as_thought(await self._port.complete(as_words(request)), request)
