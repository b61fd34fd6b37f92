import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.models.decisions import DecisionModel, as_thought, as_words, parse
from processors.models.mending import KEPT_CHARS, corrected, shortened
from processors.models.port import ModelReply, ModelRequest
from schemas.catalogue import ToolDefinition
from schemas.chat import ChatMessage, ToolCall, Usage
from schemas.errors import InvalidReplyError
from schemas.ids import AgentId, ExecutionId, SiteId

LOOK_UP = ToolDefinition(
    name="look_up",
    display_name="Look up",
    description="Look something up.",
    category="test",
    parameters={"type": "object"},
    handler_type="internal",
)
SYSTEM = ChatMessage(role="system", content="Be brief.")
ASKED = ChatMessage(role="user", content="hello")
CALLED = ChatMessage(
    role="assistant", content="I look.", tool_calls=(ToolCall(id="c1", name="look_up", arguments={"n": 1}),)
)
TOLD = ChatMessage(role="tool", content='{"ok":true}', tool_call_id="c1")
REQUEST = ModelRequest(
    SiteId("s"), AgentId("a"), ExecutionId("e"), 2, "p", "m", (SYSTEM, ASKED, CALLED, TOLD), (LOOK_UP,)
)
USAGE = Usage(input_tokens=5, output_tokens=7)

USE = {"reasoning": "why", "action": "use_tool", "tool": "look_up", "input": {"n": 1}, "confidence": 0.5}
FINISH = {"reasoning": "All is done.", "action": "finish"}


def reply(text: str) -> ModelReply:
    return ModelReply(reply_id="r", provider="p", model="m", text=text, usage=USAGE)


def said(decision: object) -> str:
    return orjson.dumps(decision).decode()


def test_a_decision_to_use_a_tool_becomes_a_call() -> None:
    thought = as_thought(reply(said(USE)), REQUEST)
    assert [(call.name, call.arguments) for call in thought.tool_calls] == [("look_up", {"n": 1})]
    assert (thought.text, thought.finish_reason, thought.usage) == ("why", "tool_calls", USAGE)


def test_a_decision_to_finish_becomes_an_answer() -> None:
    thought = as_thought(reply(f"```json\n{said(FINISH)}\n```"), REQUEST)
    assert (thought.text, thought.tool_calls, thought.finish_reason) == ("All is done.", (), "stop")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I would rather talk.", "JSON"),
        (said(USE)[:-1], "JSON"),
        (said(USE) + " and more", "JSON"),
        (said([USE]), "object"),
        (said({**USE, "action": "destroy"}), "action"),
        (said({**USE, "tool": "delete_all"}), "look_up"),
        (said({**USE, "tool": None}), "look_up"),
        (said({**USE, "input": "n=1"}), "input"),
        (said({**USE, "input": None}), "input"),
        (said({**USE, "confidence": 1.5}), "confidence"),
        (said({**USE, "confidence": "high"}), "confidence"),
        (said({**USE, "approved": True}), "approved"),
        (said({**FINISH, "tool": "look_up"}), "finish"),
        (said({"action": "finish"}), "reasoning"),
        ("", "JSON"),
    ],
)
def test_anything_else_is_told_to_the_model_and_was_paid(text: str, why: str) -> None:
    with pytest.raises(InvalidReplyError) as raised:
        as_thought(reply(text), REQUEST)
    assert why in raised.value.problem
    assert raised.value.spent == USAGE
    assert (text or "(nothing)") in corrected(REQUEST, raised.value).messages[-2].content


@given(st.text(max_size=200))
def test_no_text_does_anything_but_decide_or_fail(text: str) -> None:
    try:
        decision = parse(text, (LOOK_UP,))
    except ValueError:
        return
    assert decision.action == "finish" or decision.tool == "look_up"


def test_tools_and_calls_are_put_into_words() -> None:
    words = as_words(REQUEST)
    assert words.tools == ()
    assert words.answer == "json"
    assert [message.role for message in words.messages] == ["system", "system", "user", "assistant", "user"]
    assert '"type":"object"' in words.messages[1].content
    assert orjson.loads(words.messages[3].content) == {
        "reasoning": "I look.",
        "action": "use_tool",
        "tool": "look_up",
        "input": {"n": 1},
    }
    assert '{"ok":true}' in words.messages[4].content


async def test_the_last_question_is_answered_in_words() -> None:
    class Model:
        async def complete(self, request: ModelRequest) -> ModelReply:
            assert request.answer == "text"
            return reply("In words.")

    last = ModelRequest(SiteId("s"), AgentId("a"), ExecutionId("e"), 3, "p", "m", (SYSTEM, ASKED, CALLED, TOLD))
    assert (await DecisionModel(Model()).complete(last)).text == "In words."


def test_short_results_are_not_worth_shortening() -> None:
    assert shortened(REQUEST) is None


def test_the_only_results_are_shortened_if_there_are_no_older_ones() -> None:
    long = TOLD.model_copy(update={"content": "x" * 10_000})
    shorter = shortened(ModelRequest(SiteId("s"), AgentId("a"), ExecutionId("e"), 2, "p", "m", (ASKED, CALLED, long)))
    assert shorter is not None
    assert shorter.messages[2].content.startswith("x" * KEPT_CHARS)
    assert len(shorter.messages[2].content) < KEPT_CHARS + 100
    assert shortened(shorter) is None
