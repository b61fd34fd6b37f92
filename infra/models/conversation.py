"""What a prompt tells a script, and whether a rule's condition holds for it."""

from collections.abc import Callable, Iterable
from functools import cached_property

import orjson

from infra.models.script import When
from infra.models.templates import MissingError, look_up, parse_path
from processors.models.port import ModelRequest
from processors.tools.globs import matches
from schemas.chat import ChatMessage, ToolCall
from schemas.errors import ModelError
from schemas.ids import agent_id_of
from schemas.message import Json, JsonObject

FENCE = "```json\n"
FENCE_END = "\n```"  # a JSON text has no line break within its strings, so this can't stand inside the block


def script_error(message: str) -> ModelError:
    """Return the error of a script that does not fit what it is asked; asking again does not help."""
    return ModelError(message, reason="script", retryable=False)


class Conversation:
    """What a prompt tells: read as far as a rule asks for it, and once."""

    def __init__(self, request: ModelRequest) -> None:
        self.request = request

    @cached_property
    def given(self) -> JsonObject:
        """The first fenced JSON block of a user's message: `trigger` and `entity`."""
        for message in self.request.messages:
            if message.role != "user" or FENCE not in message.content:
                continue
            block = message.content.partition(FENCE)[2].partition(FENCE_END)[0]
            try:
                given = orjson.loads(block)
            except orjson.JSONDecodeError as error:
                raise script_error(f"the prompt's JSON block can't be read: {error}") from error
            return given if isinstance(given, dict) else {}
        return {}

    @cached_property
    def called(self) -> tuple[str, ...]:
        """The names of the tools called so far, in order."""
        return tuple(call.name for message in self.request.messages for call in message.tool_calls)

    @cached_property
    def tools(self) -> JsonObject:
        """Each tool's last output that was not an error."""
        names = {call.id: call.name for message in self.request.messages for call in message.tool_calls}
        return {
            names[message.tool_call_id]: result["output"]
            for message in self.request.messages
            if message.role == "tool" and message.tool_call_id in names
            for result in [_result(message)]
            if result.get("ok") and "output" in result
        }

    @cached_property
    def last(self) -> tuple[tuple[ToolCall, ...], tuple[ChatMessage, ...]]:
        """The calls of the last reply that made any, and the results that came after it."""
        messages = self.request.messages
        for position in range(len(messages) - 1, -1, -1):
            if calls := messages[position].tool_calls:
                return calls, tuple(message for message in messages[position + 1 :] if message.role == "tool")
        return (), ()

    def root(self, name: str) -> Json:
        """Return what a path begins at.

        Raises:
            KeyError: there is nothing of that name.
        """
        if name == "tools":
            return self.tools
        if name == "step":
            return self.request.step
        return self.given[name]


def _result(message: ChatMessage) -> JsonObject:
    try:
        result = orjson.loads(message.content)
    except orjson.JSONDecodeError:
        return {}
    return result if isinstance(result, dict) else {}


def fits(when: When, seen: Conversation) -> bool:
    """Whether everything that `when` names holds."""
    request = seen.request
    steps = (when.step,) if isinstance(when.step, int) else when.step
    return (
        (steps is None or request.step in steps)
        and (when.final is None or when.final is not bool(request.tools))
        and (when.agent is None or agent_id_of(request.site_id, when.agent) == request.agent_id)
        and (when.system is None or _in_any(when.system, (m.content for m in request.messages if m.role == "system")))
        and (when.event is None or matches(when.event, _event_type(seen)))
        and all(name in seen.called for name in when.called)
        and not any(name in seen.called for name in when.not_called)
        and _last_fits(when, seen)
        and _compares(when.equals, seen, lambda value, wanted: bool(value == wanted))
        and _compares(when.at_least, seen, lambda value, wanted: _is_number(value) and bool(value >= wanted))
        and _compares(when.below, seen, lambda value, wanted: _is_number(value) and bool(value < wanted))
    )


def _event_type(seen: Conversation) -> str:
    trigger = seen.given.get("trigger")
    found = trigger.get("event_type") if isinstance(trigger, dict) else None
    return found if isinstance(found, str) else ""


def _last_fits(when: When, seen: Conversation) -> bool:
    if when.last_tool is None and when.last_ok is None and when.last_contains is None:
        return True
    calls, results = seen.last
    return (
        (when.last_tool is None or any(matches(when.last_tool, call.name) for call in calls))
        and (when.last_ok is None or (bool(results) and when.last_ok is all(_result(m).get("ok") for m in results)))
        and (when.last_contains is None or _in_any(when.last_contains, (message.content for message in results)))
    )


def _compares(wanted: dict[str, Json], seen: Conversation, holds: Callable[[Json, Json], bool]) -> bool:
    for path, value in wanted.items():
        try:
            found = look_up(seen, parse_path(path))
        except MissingError:
            return False
        if not holds(found, value):
            return False
    return True


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_any(text: str, contents: Iterable[str]) -> bool:
    return any(text in content for content in contents)
