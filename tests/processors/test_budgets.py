"""What runs may spend: reserved before each question, exact over all runs of an agent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from processors.executions.spending import LATE_MS
from processors.models.port import ModelReply, ModelRequest
from processors.runtime.awaiting import CallModel, awaiting
from processors.runtime.process import Process
from schemas.catalogue import Catalogue, Price
from schemas.chat import Usage
from schemas.commands import AnyCommand, CancelExecution, RecordContext, RecordThought
from schemas.errors import InvalidReplyError
from schemas.events import (
    BudgetAwaited,
    BudgetReserved,
    ExecutionCompleted,
    ExecutionFailed,
    StepAttemptFailed,
    StepModelFailed,
    StepThought,
    UsageMetered,
)
from schemas.ids import ExecutionId, random_id
from tests.processors.asks import activate, attempt, call, context, create, result, start, thought, time_out, update
from tests.processors.fakes import Owner, StubContext, StubTools, history, new_log, tell, until
from tests.processors.samples import LOOK_UP, PRICE, config
from tests.processors.spec import Spec

FREE = Catalogue(tools=(LOOK_UP,))
PAID = Catalogue(tools=(LOOK_UP,), prices=(PRICE,))
DAY_MS = 86_400_000
BIG, SMALL = 10_000_000, 1_000
MANY: dict[str, Any] = {"max_runs_per_hour": 10_000, "max_runs_per_day": 10_000, "max_concurrent_runs": 10_000}


def capped(**caps: Any) -> Spec:
    """Return an active agent with these caps; its prompt is about 1,000 bytes, and its replies are short."""
    return Spec().given(create(config(max_tokens=100, **(MANY | caps))), activate())


def thinking(run: str, **caps: Any) -> Spec:
    return capped(**caps).given(start(run), context(PAID))


def of(run_id: ExecutionId, ask: Callable[[Spec], Any]) -> Callable[[Spec], AnyCommand]:
    """Say something of another run than the newest."""

    def asked(spec: Spec) -> AnyCommand:
        command: AnyCommand = ask(spec).model_copy(update={"execution_id": run_id})
        return command

    return asked


def spent(spec: Spec) -> int:
    paid = (StepThought, StepModelFailed, StepAttemptFailed, UsageMetered)
    return sum(event.cost_micros for event in spec.events if isinstance(event, paid))


def need() -> BudgetReserved:
    """Return what the first question of these runs may cost."""
    return thinking("t", max_cost_micros_per_day=BIG).the(BudgetReserved)


# --- one run --------------------------------------------------------------------------------------------------------


def test_without_a_cap_nothing_is_said_of_budgets() -> None:
    spec = Spec().given(create(), activate(), start()).when(context(PAID))
    spec.then("agent.catalogue_recorded", "context.assembled", "step.observed 1")
    assert spec.stream.agent.held == {}


def test_a_question_is_asked_once_its_reservation_stands_in_the_log() -> None:
    spec = thinking("t", max_cost_micros_per_day=BIG)
    spec.then("agent.catalogue_recorded", "context.assembled", "step.observed 1", "budget.reserved")
    reserved = spec.the(BudgetReserved)
    assert reserved.tokens is not None
    assert reserved.cost_micros is not None
    assert reserved.cost_micros >= 100 * 10 + (reserved.tokens - 100) * 2  # max_tokens out, the prompt in
    assert CallModel(spec.run_id, 1) in awaiting(spec.run)


def test_a_reservation_covers_the_prompt_and_the_longest_answer() -> None:
    reserved = need()
    bytes_ = sum(len(line) for line in thinking("t", max_cost_micros_per_day=BIG).run.lines)
    assert (reserved.tokens or 0) >= bytes_ + 100


def test_what_was_reserved_is_let_go_when_the_reply_is_paid() -> None:
    spec = thinking("t", max_cost_micros_per_day=BIG).given(thought(call("a"), usage=Usage(input_tokens=5)))
    agent = spec.stream.agent
    assert (agent.held, agent.spent_day.tokens, agent.spent_day.cost_micros) == ({}, 5, 10)
    assert agent.spent_month.cost_micros == 10
    spec.when(result("a")).then("tool.completed a", "step.observed 2", "budget.reserved")


def test_an_answer_without_a_word_on_what_it_took_counts_for_all_that_was_held() -> None:
    held = need()
    spec = thinking("t", max_cost_micros_per_day=BIG).given(thought(call("a"), usage=Usage()))
    agent = spec.stream.agent
    assert (agent.held, agent.spent_day.tokens, agent.spent_day.cost_micros) == ({}, held.tokens, held.cost_micros)
    assert agent.spent_month.cost_micros == held.cost_micros
    assert spent(spec) == 0  # it is charged to nobody: what it took is not known


@pytest.mark.parametrize("cap", ["max_cost_micros_per_run", "max_cost_micros_per_day", "max_cost_micros_per_month"])
def test_no_cap_is_passed_by_a_provider_that_says_nothing(cap: str) -> None:
    spec = thinking("t", **{cap: 3 * (need().cost_micros or 0)})
    for step in range(1, 9):
        spec = spec.given(thought(call(f"c{step}"), usage=Usage())).when(result(f"c{step}"))
        if "execution.failed (budget_exceeded)" in spec.lines:
            break
    assert step <= 3
    assert spec.lines[-1] == "execution.failed (budget_exceeded)"


def test_a_question_in_the_same_decision_knows_of_what_was_held_for_the_answer_before_it() -> None:
    spec = thinking("t", max_cost_micros_per_run=int(1.5 * (need().cost_micros or 0)))
    spec = spec.when(thought(call("a", tool="unknown"), usage=Usage()))
    assert spec.lines[-1] == "execution.failed (budget_exceeded)"


def test_a_run_whose_question_would_pass_its_agents_cap_fails_and_says_so_plainly() -> None:
    spec = thinking("t", max_cost_micros_per_day=SMALL)
    spec.then("agent.catalogue_recorded", "context.assembled", "execution.failed (budget_exceeded)")
    said = spec.the(ExecutionFailed).error
    assert said.startswith("the agent may spend 0.001 USD a day; 0 USD is spent, and the next question")


@pytest.mark.parametrize(
    "cap", ["max_tokens_per_run", "max_tokens_per_day", "max_tokens_per_month", "max_cost_micros_per_run",
            "max_cost_micros_per_day", "max_cost_micros_per_month"]
)  # fmt: skip
def test_every_cap_holds(cap: str) -> None:
    assert thinking("t", **{cap: SMALL}).lines[-1] == "execution.failed (budget_exceeded)"
    assert thinking("t", **{cap: BIG}).lines[-1] == "budget.reserved"


def test_a_run_that_used_its_own_budget_fails_with_the_tools_result_in_the_log() -> None:
    cap = (need().cost_micros or 0) + 100
    spec = thinking("t", max_cost_micros_per_run=cap).given(thought(call("a"), usage=Usage(output_tokens=100)))
    spec = spec.when(result("a")).then("tool.completed a", "execution.failed (budget_exceeded)")
    failed = spec.the(ExecutionFailed)
    assert failed.actions_taken[0].status == "completed"
    assert failed.totals.cost_micros == 1_000


def test_a_days_budget_is_there_again_the_next_day_and_a_months_is_not() -> None:
    cap = (need().cost_micros or 0) + 100
    for period, line in (("day", "budget.reserved"), ("month", "execution.failed (budget_exceeded)")):
        spec = thinking("t", **{f"max_cost_micros_per_{period}": cap})
        spec = spec.given(thought(text="Done.", usage=Usage(output_tokens=100)))
        assert spec.given(start("u"), context(PAID)).lines[-1] == "execution.failed (budget_exceeded)"
        later = spec.given(start("v", time_ms=spec.at_ms), later_ms=DAY_MS).given(context(PAID))
        assert later.lines[-1] == line


def test_an_unpriced_model_is_refused_where_costs_are_capped_and_only_there() -> None:
    spec = capped(max_cost_micros_per_day=BIG).given(start(), context(FREE))
    assert spec.lines[-1] == "execution.failed (unpriced_model)"
    assert "openai/gpt-4o" in spec.the(ExecutionFailed).error
    assert capped(max_tokens_per_day=BIG).given(start(), context(FREE)).lines[-1] == "budget.reserved"


def test_a_price_in_another_currency_is_no_price_for_a_cap() -> None:
    euros = Catalogue(prices=(PRICE.model_copy(update={"currency": "EUR"}),))
    spec = capped(max_cost_micros_per_day=BIG).given(start(), context(euros))
    assert spec.lines[-1] == "execution.failed (unpriced_model)"


def test_the_dearest_of_the_models_that_may_be_asked_is_reckoned_with() -> None:
    dear = Price(provider="other", model="big", version="1", input=0, cached_input=0, output=1_000_000_000)
    both = Catalogue(tools=(LOOK_UP,), prices=(PRICE, dear))
    caps = {"max_cost_micros_per_day": BIG, "fallback_models": ("other/big",)}
    reserved = capped(**caps).given(start(), context(both)).the(BudgetReserved)
    assert (reserved.cost_micros or 0) >= 100 * 1_000
    assert capped(**caps).given(start(), context(PAID)).lines[-1] == "execution.failed (unpriced_model)"


def test_what_a_provider_counted_once_is_not_estimated_again() -> None:
    spec = thinking("t", max_cost_micros_per_day=BIG)
    first = spec.the(BudgetReserved)
    size = sum(len(line) for line in spec.run.lines)
    spec = spec.given(thought(call("a"), usage=Usage(input_tokens=size // 4, output_tokens=20)), result("a"))
    assert (spec.the(BudgetReserved).tokens or 0) < (first.tokens or 0)


# --- several runs ---------------------------------------------------------------------------------------------------


def two(cap: int) -> tuple[Spec, ExecutionId, ExecutionId]:
    """Return two runs that ask at once, under a cap."""
    spec = thinking("one", max_cost_micros_per_day=cap)
    first = spec.run_id
    spec = spec.given(start("two"), context(PAID, body=False))
    return spec, first, spec.run_id


def test_a_run_waits_while_only_anothers_reservation_is_in_its_way() -> None:
    spec, first, second = two((need().cost_micros or 0) * 3 // 2)
    spec.then("context.assembled", "step.observed 1", "budget.awaited")
    assert spec.stream.agent.queued == [second]
    assert not any(isinstance(effect, CallModel) for effect in awaiting(spec.run))
    spec = spec.when(of(first, thought(text="Done.", usage=Usage(output_tokens=1))))
    spec.then("step.thought 1", "execution.completed", "budget.reserved")
    assert spec.the(BudgetReserved).execution_id == second
    assert CallModel(second, 1) in awaiting(spec.run)
    assert spec.stream.agent.queued == []


def test_a_run_that_waited_fails_once_what_is_spent_leaves_no_room() -> None:
    spec, first, second = two((need().cost_micros or 0) * 3 // 2)
    spec = spec.when(of(first, thought(text="Done.", usage=Usage(output_tokens=(need().cost_micros or 0) // 10))))
    spec.then("step.thought 1", "execution.completed", "execution.failed (budget_exceeded)")
    assert spec.the(ExecutionFailed).execution_id == second


def test_who_came_first_is_served_first() -> None:
    spec, first, second = two((need().cost_micros or 0) * 3 // 2)
    spec = spec.given(start("three"), context(PAID, body=False))
    assert spec.stream.agent.queued == [second, spec.run_id]
    spec = spec.given(of(first, thought(text="Done.", usage=Usage(output_tokens=1))))
    assert spec.stream.agent.queued == [spec.run_id]


def test_a_higher_cap_lets_who_waits_go_on() -> None:
    spec, _, second = two((need().cost_micros or 0) * 3 // 2)
    spec = spec.when(update(max_tokens=100, max_cost_micros_per_day=BIG, **MANY))
    spec.then("agent.updated", "budget.reserved")
    assert spec.the(BudgetReserved).execution_id == second


def test_a_run_that_waits_can_still_run_out_of_time() -> None:
    spec, _, second = two((need().cost_micros or 0) * 3 // 2)
    spec = spec.given(of(second, time_out()), later_ms=10 * 60_000)
    assert spec.lines[-1] == "execution.timed_out"
    assert spec.stream.agent.queued == []


def test_a_cancelled_runs_question_is_reckoned_with_until_its_reply_comes() -> None:
    spec, first, second = two((need().cost_micros or 0) * 3 // 2)
    spec = spec.given(CancelExecution(execution_id=first))
    assert spec.stream.agent.queued == [second]
    late = RecordThought(
        execution_id=first, step=1, reply_id="late", provider="openai", model="gpt-4o", usage=Usage(output_tokens=1)
    )
    spec.when(late).then("usage.metered 1 (late)", "budget.reserved")


def test_a_reply_that_never_comes_is_not_reckoned_with_for_ever() -> None:
    spec, first, second = two((need().cost_micros or 0) * 3 // 2)
    spec = spec.given(CancelExecution(execution_id=first)).given(CancelExecution(execution_id=second))
    soon = spec.given(start("soon"), context(PAID, body=False))
    assert soon.lines[-1] == "budget.awaited"
    assert spec.given(start("later"), context(PAID, body=False), later_ms=LATE_MS).lines[-1] == "budget.reserved"


# --- tries ----------------------------------------------------------------------------------------------------------


def test_a_try_that_was_paid_for_needs_a_reservation_for_the_next() -> None:
    spec = thinking("t", max_cost_micros_per_day=BIG)
    before = spec.the(BudgetReserved)
    spec = spec.when(attempt(usage=Usage(input_tokens=10, output_tokens=50)))
    spec.then("step.attempt_failed 1 (cut_stream)", "budget.reserved")
    assert (spec.the(BudgetReserved).tokens or 0) > (before.tokens or 0)
    assert spec.run.reserved == 2


def test_a_try_that_cost_nothing_keeps_its_reservation() -> None:
    thinking("t", max_cost_micros_per_day=BIG).when(attempt()).then("step.attempt_failed 1 (cut_stream)")


def test_a_try_that_used_up_the_budget_ends_the_run_and_holds_nothing() -> None:
    spec = thinking("t", max_cost_micros_per_day=(need().cost_micros or 0) + 10)
    spec = spec.when(attempt(usage=Usage(output_tokens=50)))
    spec.then("step.attempt_failed 1 (cut_stream)", "execution.failed (budget_exceeded)")
    assert spec.stream.agent.held == {}


# --- the whole house, in memory -------------------------------------------------------------------------------------


@dataclass
class Meter:
    """A model whose replies vary in size, with a count of what it charged and how many were asked at once."""

    asked: int = 0
    at_once: int = 0
    charged: int = 0
    invalid: int = 0
    most: int = 0
    random: Random = field(default_factory=lambda: Random(7))

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(self.random.random() / 200)
        self.at_once -= 1
        bytes_ = sum(len(message.content) for message in request.messages)
        usage = Usage(
            input_tokens=self.random.randint(bytes_ // 5, bytes_ // 3),
            output_tokens=self.random.randint(1, request.max_tokens or 1),
        )
        self.charged += usage.input_tokens * 2 + usage.output_tokens * 10
        if self.random.random() < 0.1:
            self.invalid += 1
            raise InvalidReplyError("it is no JSON", said="x" * 50, spent=usage)
        calls = (call("a"),) if request.step < 6 else ()
        return ModelReply(
            random_id(), request.provider, request.model, "so", calls, "tool_calls" if calls else "stop", usage
        )


async def test_a_cap_of_one_dollar_holds_over_two_hundred_runs_at_once_and_is_used() -> None:
    log, meter = await new_log(), Meter()
    agent = config(max_tokens=500, max_cost_micros_per_day=1_000_000, **MANY)
    house = Process(log, meter, StubTools(), StubContext(PAID), now_ms=log._clock)
    async with Owner(house, log) as owner:
        await tell(log, create(agent), activate(), *(start(f"t{n}") for n in range(200)))
        await owner.done(log)
        await until(lambda: not any(stream.runs for stream in owner.partition.streams.values()), 40)
        await until(lambda: owner.effects == 0)
    told = history(log)
    assert 900_000 < spent(told) <= 1_000_000
    assert spent(told) == meter.charged
    assert meter.invalid > 0
    assert meter.most > 1
    assert told.all(BudgetAwaited)
    failures = told.all(ExecutionFailed)
    reasons = {failed.reason for failed in failures}
    assert "budget_exceeded" in reasons
    assert reasons <= {"budget_exceeded", "model_failed"}  # three answers that can't be used, one after the other
    assert len(failures) + len(told.all(ExecutionCompleted)) == 200


async def test_the_next_try_waits_for_its_reservation() -> None:
    log = await new_log()
    failures = [InvalidReplyError("no", said="x", spent=Usage(output_tokens=5))]
    asked: list[int] = []

    class Model:
        async def complete(self, request: ModelRequest) -> ModelReply:
            asked.append(len(history(log).all(BudgetReserved)))
            if failures:
                raise failures.pop()
            return ModelReply(random_id(), request.provider, request.model, "Done.")

    house = Process(log, Model(), StubTools(), StubContext(PAID), now_ms=log._clock)
    async with Owner(house, log):
        await tell(log, create(config(max_cost_micros_per_day=BIG)), activate(), start())
        await until(lambda: history(log).all(ExecutionCompleted))
    assert asked == [1, 2]


def test_a_context_with_nothing_known_is_refused_as_ever() -> None:
    spec = capped(max_cost_micros_per_day=BIG).given(start())
    unknown = RecordContext(execution_id=spec.run_id, catalogue_sha256="0" * 64)
    spec.when(unknown).then("command.rejected (unknown_catalogue)", "execution.failed (internal)")
