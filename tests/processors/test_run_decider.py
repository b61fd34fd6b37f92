"""A run, from its trigger to its end."""

from schemas.chat import Usage
from schemas.commands import RecalledMemory
from schemas.events import (
    ApprovalResolved,
    ContextAssembled,
    ExecutionCompleted,
    ExecutionFailed,
    StepAttemptFailed,
    StepObserved,
    StepThought,
    ToolCompleted,
    ToolFailed,
    ToolRequested,
    ToolStarted,
    UsageMetered,
)
from tests.processors.asks import (
    STARTED,
    THINKING,
    USAGE,
    activate,
    approve,
    attempt,
    call,
    context,
    create,
    model_failure,
    result,
    start,
    start_tool,
    thought,
)
from tests.processors.samples import APPROVING, CATALOGUE, config
from tests.processors.spec import Spec

ACTING = THINKING.given(thought(call("a", id="7")))
TWO_CALLS = THINKING.given(thought(call("a", id="1"), call("b", id="2")))


def test_a_run_on_the_wire_is_the_table_of_the_design() -> None:
    run = Spec().given(create(), activate())
    run = run.when(start()).then("execution.started")
    run = run.when(context(entity={"name": "Ann"}))
    run.then("agent.catalogue_recorded", "context.assembled", "step.observed 1")
    run = run.when(thought(call("a"))).then("step.thought 1", "tool.requested a")
    run = run.when(result("a")).then("tool.completed a", "step.observed 2")
    run = run.when(thought(call("b", "wire_money"))).then("step.thought 2", "approval.requested b")
    run = run.when(approve("b"), actor=APPROVING).then("approval.resolved b", "tool.requested b")
    run = run.when(start_tool("b")).then("tool.started b")
    run = run.when(result("b")).then("tool.completed b", "step.observed 3")
    run.when(thought(text="Done.")).then("step.thought 3", "execution.completed")


def test_a_fixed_story_gives_the_bytes_of_every_release() -> None:
    """If it fails, a log of an older release replays otherwise: decide that way under a new version of the decider."""
    run = ACTING.given(result("a", {"name": "Ann"}), thought(call("b", "wire_money"))).given(
        approve("b"), actor=APPROVING
    )
    run = run.given(start_tool("b"), result("b", error="refused"), thought(text="Done."))
    assert run.lines[-1] == "execution.completed"
    assert (run.stream.head.sequence, run.stream.head.chain.hex()) == (
        19,
        "0e1630d539d24586b43256edc242c01d16d86c1b1dd572b8502c6b0121ed5153",
    )


def test_a_catalogue_is_recorded_once_a_stream() -> None:
    THINKING.given(thought(text="Done."), start("trigger-2")).when(context(body=False)).then(
        "context.assembled", "step.observed 1"
    )


def test_the_context_is_recorded_as_seen() -> None:
    memory = RecalledMemory(id="m1", kind="fact", content="Ann likes tea.", score=0.9)
    seen = STARTED.when(context(memories=[memory], entity={"id": 7})).the(ContextAssembled)
    assert (seen.memories, seen.entity, seen.catalogue_sha256) == ((memory,), {"id": 7}, CATALOGUE.sha256)


def test_a_context_that_comes_twice_changes_nothing() -> None:
    THINKING.when(context()).then_nothing()


def test_a_run_whose_catalogue_nobody_knows_fails() -> None:
    STARTED.when(context(body=False)).then("command.rejected (unknown_catalogue)", "execution.failed (internal)")


def test_a_run_whose_catalogue_is_another_than_it_says_fails() -> None:
    STARTED.when(context(sha256="0" * 64)).then("command.rejected (unknown_catalogue)", "execution.failed (internal)")


def test_a_reply_without_calls_completes_the_run_with_its_text() -> None:
    done = THINKING.when(thought(text="All is well.")).then("step.thought 1", "execution.completed")
    assert done.the(ExecutionCompleted).result == "All is well."


def test_a_redelivered_reply_changes_nothing() -> None:
    ACTING.given(result("a"), thought(call("b"), reply="again")).when(thought(call("b"), reply="again")).then_nothing()


def test_a_second_reply_to_a_step_is_metered_once() -> None:
    second = ACTING.when(thought(text="me too", step=1, reply="second")).then("usage.metered 1 (second)")
    assert second.the(UsageMetered).cost_micros == 100 * 2 + 10 * 10
    second.when(thought(text="me too", step=1, reply="second")).then_nothing()


def test_a_reply_after_the_end_is_metered_once() -> None:
    late = THINKING.given(thought(text="Done.")).when(thought(text="late", reply="late"))
    late.then("usage.metered 1 (late)").when(thought(text="late", reply="late")).then_nothing()


def test_a_reply_to_another_step_than_the_open_one_only_costs() -> None:
    THINKING.when(thought(text="early", step=2)).then("usage.metered 2 (second)")


def test_a_reply_costs_what_its_run_s_catalogue_says() -> None:
    usage = Usage(input_tokens=1_000, cached_tokens=400, output_tokens=20)
    cost = THINKING.when(thought(text="Done.", usage=usage)).the(StepThought)
    assert (cost.cost_micros, cost.currency, cost.price_version) == (600 * 2 + 400 * 1 + 20 * 10, "USD", "2026-01")


def test_a_model_without_a_price_costs_nothing_and_says_so() -> None:
    cost = THINKING.when(thought(text="Done.", model="local")).the(StepThought)
    assert (cost.cost_micros, cost.currency, cost.price_version) == (0, "USD", None)


def test_a_model_that_gives_up_fails_the_run_and_is_paid_for_what_it_spent() -> None:
    failed = THINKING.when(model_failure(usage=Usage(input_tokens=50)))
    failed.then("step.model_failed", "execution.failed (model_failed)")
    assert failed.the(ExecutionFailed).totals.cost_micros == 100
    assert failed.the(ExecutionFailed).tokens_used == 50


def test_a_model_that_gives_up_too_late_is_only_metered() -> None:
    late = THINKING.given(thought(text="Done."))
    late.when(model_failure(usage=Usage(input_tokens=50))).then("usage.metered 1 (late)")
    late.when(model_failure()).then_nothing()
    ACTING.when(model_failure()).then_nothing()


def test_a_try_that_failed_is_told_and_paid_and_the_question_stays_open() -> None:
    tried = THINKING.when(attempt(usage=Usage(input_tokens=50))).then("step.attempt_failed 1 (cut_stream)")
    assert tried.the(StepAttemptFailed).cost_micros == 100
    done = tried.when(thought(text="Done.", usage=Usage(input_tokens=10)))
    done.then("step.thought 1", "execution.completed")
    assert done.the(ExecutionCompleted).totals.cost_micros == 120
    assert done.the(ExecutionCompleted).totals.llm_calls == 2


def test_a_try_that_was_refused_is_told_and_is_no_call() -> None:
    done = THINKING.given(attempt()).when(thought(text="Done."))
    assert done.the(ExecutionCompleted).totals.llm_calls == 1


def test_a_try_is_told_once_and_after_the_end_only_metered() -> None:
    THINKING.given(attempt(reply="a", usage=USAGE)).when(attempt(reply="a", usage=USAGE)).then_nothing()
    late = THINKING.given(thought(text="Done."))
    late.when(attempt(usage=USAGE)).then("usage.metered 1 (late)")
    late.when(attempt(unsettled=True)).then_nothing()


def test_an_answer_that_the_provider_filtered_fails_the_run() -> None:
    THINKING.when(thought(finish="content_filter")).then("step.thought 1", "execution.failed (content_filter)")


def test_a_tool_s_result_asks_the_model_again() -> None:
    again = ACTING.when(result("a", {"name": "Ann"})).then("tool.completed a", "step.observed 2")
    assert again.the(StepObserved).calls == (again.call_ids["a"],)
    assert again.the(ToolCompleted).output == {"name": "Ann"}


def test_a_tool_s_error_asks_the_model_again() -> None:
    again = ACTING.when(result("a", error="no such contact")).then("tool.failed a", "step.observed 2")
    assert again.the(ToolFailed).error == "no such contact"
    assert '"no such contact"' in again.run.transcript[-1].content


def test_a_redelivered_result_changes_nothing() -> None:
    ACTING.given(result("a")).when(result("a", "another")).then_nothing()


def test_a_result_of_a_call_that_nobody_made_changes_nothing() -> None:
    ACTING.when(result("nobody's")).then_nothing()


def test_parallel_calls_settle_in_any_order() -> None:
    TWO_CALLS.when(result("a")).then("tool.completed a").when(result("b")).then("tool.completed b", "step.observed 2")
    TWO_CALLS.when(result("b")).then("tool.completed b").when(result("a")).then("tool.completed a", "step.observed 2")


def test_the_transcript_stays_in_the_order_of_the_calls() -> None:
    one = TWO_CALLS.given(result("a", "A"), result("b", "B"))
    other = TWO_CALLS.given(result("b", "B"), result("a", "A"))
    assert [m.tool_call_id for m in one.run.transcript] == [None, "a", "b"]
    assert one.run.transcript == other.run.transcript
    assert one.the(StepObserved).prompt_sha256 == other.the(StepObserved).prompt_sha256


def test_a_call_s_id_is_ours_and_the_model_s_only_names_it() -> None:
    same = THINKING.when(thought(call("x", id="1"), call("x", id="2")))
    first, second = same.the(StepThought).calls
    assert first.call_id != second.call_id
    assert {first.model_call_id, second.model_call_id} == {"x"}
    assert all(event.idempotency_key == event.call_id for event in same.all(ToolRequested))


def test_arguments_stand_once_and_later_events_name_their_sha256() -> None:
    asked = ACTING.the(ToolRequested)
    assert b'"7"' not in asked.encode()
    assert len(asked.call_sha256) == 64


def test_only_a_call_that_cant_be_repeated_is_started() -> None:
    once = THINKING.given(thought(call("a", "charge_card"))).when(start_tool("a", "runner-7")).then("tool.started a")
    assert once.the(ToolStarted).runner == "runner-7"
    once.when(start_tool("a", "runner-8")).then_nothing()
    ACTING.when(start_tool("a")).then_nothing()


def test_after_the_last_step_the_model_is_asked_once_more_without_tools() -> None:
    short = Spec().given(create(config(max_steps_per_run=1)), activate(), start(), context(), thought(call("a")))
    last = short.when(result("a")).then("tool.completed a", "step.observed 2")
    assert last.the(StepObserved).final
    end = last.when(thought(text="This is how far I came.")).then(
        "step.thought 2", "execution.failed (max_steps_reached)"
    )
    assert end.the(ExecutionFailed).error == "This is how far I came."


def test_calls_in_the_last_answer_are_not_made() -> None:
    short = Spec().given(create(config(max_steps_per_run=1)), activate(), start(), context(), thought(call("a")))
    end = short.given(result("a")).when(thought(call("b")))
    end.then("step.thought 2", "execution.failed (max_steps_reached)")
    assert end.the(ExecutionFailed).totals.tool_calls == 1


def test_a_run_s_end_says_what_it_used() -> None:
    end = ACTING.given(result("a"), thought(text="Done.")).the(ExecutionCompleted)
    totals = end.totals
    assert (totals.steps, totals.llm_calls, totals.tool_calls) == (2, 2, 1)
    assert (totals.tokens_input, totals.tokens_output, totals.cost_micros) == (200, 20, 600)
    assert end.tokens_used == 220
    assert end.duration_ms == 4_000
    assert [(action.tool, action.status) for action in end.actions_taken] == [("look_up", "completed")]


def test_a_person_s_word_is_in_the_log_under_their_name() -> None:
    asked = THINKING.given(thought(call("a", "send_mail")))
    resolved = asked.when(approve("a", note="fine"), actor=APPROVING).the(ApprovalResolved)
    assert (resolved.resolved_by, resolved.note, resolved.approved) == (APPROVING, "fine", True)
