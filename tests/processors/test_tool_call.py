import asyncio
import hashlib
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.tools.builtin.communication import SEND_EMAIL
from processors.tools.builtin.crm import GET_CONTACT
from processors.tools.call import Answer, call_tool
from processors.tools.cleaning import LEVELS, OUTPUT_LIMIT_BYTES, TOO_DEEP, clean_output, clean_text
from processors.tools.port import ToolError, ToolRequest
from schemas.catalogue import ToolDefinition
from schemas.commands import ERROR_CHARS, RecordToolResult
from schemas.errors import UnavailableError
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.message import Json

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(), max_size=10), inner, max_size=5)
    ),
    max_leaves=30,
)


def request(tool: ToolDefinition = GET_CONTACT) -> ToolRequest:
    return ToolRequest(
        call_id=CallId("call"),
        tool=tool,
        arguments={},
        site_id=SiteId("site"),
        agent_id=AgentId("agent"),
        execution_id=ExecutionId("run"),
        correlation_id="why",
    )


async def no_wait(_: float) -> None:
    return


def answering(*answers: Json) -> Answer:
    left = list(answers)

    async def answer(_: ToolRequest) -> Json:
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    return answer


async def outcome(*answers: Json, tool: ToolDefinition = GET_CONTACT) -> str | None:
    return (await call_tool(answering(*answers), request(tool), sleep=no_wait)).error


async def test_an_output_comes_back_as_it_is() -> None:
    output = {"id": "c1", "tags": ["a"], "score": 1.5}
    result = await call_tool(answering(output), request())
    assert result.output is output
    assert result.error is None
    assert result.full_bytes is None


async def test_a_tools_own_words_reach_the_model() -> None:
    assert await outcome(ToolError("There is no contact 'x'.")) == "There is no contact 'x'."


async def test_an_error_is_cut_and_cleaned() -> None:
    error = await outcome(ToolError("\ud800" + "x" * 10_000))
    assert error is not None
    assert len(error) == ERROR_CHARS
    assert error.startswith("\ufffdx")


async def test_a_bugs_text_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    error = await outcome(RuntimeError("password=hunter2 in /srv/app.py"))
    assert error == "crm_get_contact failed for an internal reason."
    assert "hunter2" in caplog.text


async def test_a_timeout_of_the_tools_own_is_a_failure_like_any_other() -> None:
    assert await outcome(TimeoutError("inner")) == "crm_get_contact failed for an internal reason."


async def test_a_tool_that_hangs_is_given_up_after_its_time() -> None:
    async def hang(_: ToolRequest) -> Json:
        await asyncio.Event().wait()

    quick = GET_CONTACT.model_copy(update={"timeout_s": 0.01})
    assert (await call_tool(hang, request(quick))).error == "crm_get_contact did not answer within 0.01 s."


async def test_a_risky_tool_that_hangs_may_have_acted() -> None:
    async def hang(_: ToolRequest) -> Json:
        await asyncio.Event().wait()

    quick = SEND_EMAIL.model_copy(update={"timeout_s": 0.01})
    error = (await call_tool(hang, request(quick))).error
    assert error is not None
    assert "may have taken effect" in error


async def test_being_cancelled_is_not_a_result() -> None:
    entered = asyncio.Event()

    async def hang(_: ToolRequest) -> Json:
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call_tool(hang, request()))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("passing", [ToolError("busy", retryable=True), UnavailableError("gone")])
async def test_a_passing_failure_is_tried_again_with_the_same_key(passing: Exception) -> None:
    result = await call_tool(answering(passing, passing, "done"), request(), sleep=no_wait)
    assert result.output == "done"


async def test_a_failure_that_stays_is_told_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    gone = UnavailableError("postgresql://secret@db is gone")
    assert await outcome(gone, gone, gone, "never") == "crm_get_contact is not available at the moment."
    assert "secret" in caplog.text


async def test_what_is_not_idempotent_is_never_tried_again() -> None:
    once = SEND_EMAIL.model_copy(update={"idempotent": False})
    assert await outcome(ToolError("busy", retryable=True), "never", tool=once) == "busy"


async def test_a_refusal_is_not_tried_again() -> None:
    assert await outcome(ToolError("no"), "never") == "no"


# --- outputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "cleaned"),
    [
        (math.nan, None),
        ({"a": [math.inf, 1.0, None]}, {"a": [None, 1.0, None]}),
        ("a\ud800b", "a\ufffdb"),
        ({"\udfff": "\ud83d\ude00"}, {"\ufffd": "😀"}),
        (b"caf\xe9", "caf\ufffd"),
        ((1, (2,)), [1, [2]]),
        ({3: "x"}, {"3": "x"}),
        ({"n": 2**70}, {"n": str(2**70)}),
        ([{"b", "a"}], [["a", "b"]]),
        ("a\0b", "a\ufffdb"),
        ({"a\0": ["\0"]}, {"a\ufffd": ["\ufffd"]}),
        (b"\0", "\ufffd"),
        ("\\u0000", "\\u0000"),
        ({1: "a", "1": "b"}, {"1": "a", "1 (2)": "b"}),
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        ([16**5_000], ["0x1" + "0" * 5_000]),
        (None, None),
    ],
)
def test_what_is_not_quite_json_becomes_json(output: Json, cleaned: Json) -> None:
    assert orjson.dumps(clean_output(output).output) == orjson.dumps(cleaned)


@pytest.mark.parametrize("output", [object(), {"when": object}, [{(1, 2): 3}]])
def test_what_is_not_json_at_all_is_an_error(output: Json) -> None:
    with pytest.raises(ToolError, match="not JSON"):
        clean_output(output)


def test_names_that_are_alike_once_they_are_clean_are_all_kept() -> None:
    names = ["\ud800", "\udfff", "\0", "\ufffd", "\ufffd (2)"]
    kept = clean_output({name: number for number, name in enumerate(names)}).output
    assert kept == {"\ufffd": 0, "\ufffd (2)": 1, "\ufffd (3)": 2, "\ufffd (4)": 3, "\ufffd (2) (2)": 4}


def nested(levels: int) -> Json:
    output: Json = "the core"
    for _ in range(levels):
        output = [output]
    return output


@pytest.mark.parametrize("levels", [101, 190, 300, 100_000])
def test_what_no_reader_could_read_again_is_cut_where_it_is_too_deep(levels: int) -> None:
    result = clean_output({"kept": 1, "deep": nested(levels)})
    assert result.output["kept"] == 1
    core = result.output["deep"]
    for _ in range(LEVELS - 1):
        (core,) = core
    assert core == TOO_DEEP == "[cut: nested deeper than 100 levels]"


def test_what_is_as_deep_as_may_be_is_whole() -> None:
    assert clean_output(nested(LEVELS)).output == nested(LEVELS)
    assert TOO_DEEP in str(clean_output(nested(LEVELS + 1)).output)


def test_an_output_that_holds_itself_ends() -> None:
    circle: list[Json] = []
    circle.append(circle)
    assert TOO_DEEP in str(clean_output(circle).output)
    circle.append(circle)
    with pytest.raises(ToolError, match="too many parts"):
        clean_output(circle)


def test_many_small_objects_are_not_deep() -> None:
    output = [{"id": number} for number in range(1_000)]
    assert clean_output(output).output is output


@pytest.mark.parametrize(
    "output",
    ["x" * 100_000, '"\\' * 60_000, "é" * 70_000, "\x01" * 30_000, [{"name": f"n{n}", "q": '"'} for n in range(9_000)]],
    ids=["plain", "quotes", "accents", "control characters", "objects"],
)
def test_a_long_output_is_cut_with_its_length_and_sha256(output: Json) -> None:
    whole = orjson.dumps(output)
    result = clean_output(output)
    assert OUTPUT_LIMIT_BYTES * 0.9 < len(orjson.dumps(result.output)) <= OUTPUT_LIMIT_BYTES
    assert result.output["cut"] is True
    assert result.full_bytes == result.output["full_bytes"] == len(whole)
    assert result.full_sha256 == hashlib.sha256(whole).hexdigest()
    assert (output if isinstance(output, str) else whole.decode()).startswith(result.output["text"])


def test_an_output_at_the_limit_is_whole() -> None:
    output = "x" * (OUTPUT_LIMIT_BYTES - 2)
    assert clean_output(output).output is output
    assert clean_output(output + "x").full_bytes == OUTPUT_LIMIT_BYTES + 1


@given(ANY_JSON)
def test_every_cleaned_output_survives_the_log(output: Json) -> None:
    cleaned = clean_output(output).output
    command = RecordToolResult(execution_id=ExecutionId("run"), call_id=CallId("call"), output=cleaned)
    assert RecordToolResult.model_validate_json(command.encode()).output == cleaned
    assert orjson.loads(orjson.dumps(cleaned)) == cleaned
    assert clean_output(cleaned).output == cleaned  # clean, and stays so
    assert "\0" not in str(orjson.loads(orjson.dumps([cleaned])))


@given(st.text(st.characters()))
def test_clean_text_can_be_encoded_and_stays_clean(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned.encode().decode() == cleaned == clean_text(cleaned)
