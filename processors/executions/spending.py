"""What an agent's runs spent, what is held for questions under way, and which runs wait for room: as events say it."""

from dataclasses import replace
from typing import Literal

from processors.agents.goals import span_of
from processors.agents.state import Agent, Hold, Spent
from processors.executions.state import Run
from schemas.delegation import Budget
from schemas.events import (
    BudgetAwaited,
    BudgetReserved,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    StepAttemptFailed,
    StepModelFailed,
    StepThought,
    UsageMetered,
)
from schemas.ids import ExecutionId

LATE_MS = 10 * 60_000  # so long after its run's end a question's reply is reckoned with: no call takes longer
BYTES_A_TOKEN = 8  # a provider that counts fewer tokens counted another prompt: a shortened one, or none

Paid = StepThought | StepModelFailed | StepAttemptFailed | UsageMetered
PAID = (StepThought, StepModelFailed, StepAttemptFailed, UsageMetered)  # a union is made anew each time it is asked for


def evolve_paid(agent: Agent, event: Paid, at_ms: int) -> None:
    """Count a reply, and let go of what was held for it."""
    hold = hold_of(agent, event.execution_id, at_ms)
    agent.spent_day = plus(spent_in(agent.spent_day, "day", at_ms), event, hold)
    agent.spent_month = plus(spent_in(agent.spent_month, "month", at_ms), event, hold)
    if agent.held and settles(event):
        agent.held.pop(event.execution_id, None)
    if agent.queued and isinstance(event, StepThought):
        _leave(agent, event.execution_id)


def evolve_agent(agent: Agent, event: Event, at_ms: int) -> None:
    """Assign what an event says of what is held, and of who waits."""
    match event:
        case BudgetReserved(call_id=None):
            for run_id in [run_id for run_id, hold in agent.held.items() if is_over(hold, at_ms)]:
                del agent.held[run_id]
            agent.held[event.execution_id] = Hold(event.tokens or 0, event.cost_micros or 0)
            _leave(agent, event.execution_id)
        case BudgetAwaited():
            agent.held.pop(event.execution_id, None)
            if event.execution_id not in agent.queued:
                agent.queued.append(event.execution_id)
        case ExecutionFailed(reason="budget_exceeded"):  # no question is under way
            agent.held.pop(event.execution_id, None)
            _leave(agent, event.execution_id)
        case ExecutionCompleted() | ExecutionFailed() | ExecutionCancelled() | ExecutionTimedOut():
            if (hold := agent.held.get(event.execution_id)) is not None:
                agent.held[event.execution_id] = replace(hold, until_ms=at_ms + LATE_MS)
            _leave(agent, event.execution_id)


def evolve_run(run: Run, event: BudgetReserved | BudgetAwaited) -> None:
    """Assign to a run what it, or a run that it delegates to, may spend; or that it waits."""
    if isinstance(event, BudgetAwaited):
        run.waits = True
    elif event.call_id is not None:
        run.calls[event.call_id].share = Budget(tokens=event.tokens, cost_micros=event.cost_micros)
    else:
        run.waits = False
        run.reserved += 1


def learn(run: Run, event: StepThought) -> None:
    """Note how many tokens the prompt has, the answer included, as its provider counted them."""
    told = event.usage.input_tokens + event.usage.output_tokens
    likely = told * BYTES_A_TOKEN >= sum(map(len, run.lines))
    run.known_tokens, run.known_lines = (told, len(run.lines)) if likely else (0, 0)


def spent_in(spent: Spent, period: Literal["day", "month"], at_ms: int) -> Spent:
    """Return what is spent in the day or month in which `at_ms` lies."""
    if spent.start_ms <= at_ms < spent.end_ms:
        return spent
    span = span_of(period, at_ms)
    return Spent(span.start_ms, span.end_ms)


def plus(spent: Spent, event: Paid, hold: Hold | None) -> Spent:
    """Return `spent` with one reply more, for which `hold` was held."""
    usage = event.usage
    if usage is None:
        return spent
    if is_untold(event) and hold is not None:
        return replace(spent, tokens=spent.tokens + hold.tokens, cost_micros=spent.cost_micros + hold.cost_micros)
    tokens = usage.input_tokens + usage.output_tokens
    return replace(spent, tokens=spent.tokens + tokens, cost_micros=spent.cost_micros + event.cost_micros)


def assume(run: Run, event: Paid, hold: Hold | None) -> None:
    """Note what a reply is taken to have cost the run where its provider told nothing: all that was held for it."""
    if is_untold(event) and hold is not None:
        run.assumed_tokens += hold.tokens
        run.assumed_cost_micros += hold.cost_micros


def is_untold(event: Paid) -> bool:
    """Whether a provider answered without a word on what it took: even an empty answer has a prompt."""
    usage = event.usage
    return usage is not None and settles(event) and usage.input_tokens + usage.output_tokens == 0


def settles(event: Paid) -> bool:
    """Whether nothing more is to come of the question: no try that others follow, and no second answer."""
    if isinstance(event, UsageMetered):
        return event.reason != "second"
    return not isinstance(event, StepAttemptFailed)


def hold_of(agent: Agent, run_id: ExecutionId, at_ms: int) -> Hold | None:
    """Return what is held for a run's question, if its reply is still to be reckoned with."""
    hold = agent.held.get(run_id)
    return None if hold is None or is_over(hold, at_ms) else hold


def is_over(hold: Hold, at_ms: int) -> bool:
    """Whether a reply need no longer be reckoned with."""
    return hold.until_ms is not None and hold.until_ms <= at_ms


def _leave(agent: Agent, run_id: ExecutionId) -> None:
    if run_id in agent.queued:
        agent.queued.remove(run_id)
