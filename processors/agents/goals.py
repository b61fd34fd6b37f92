"""Goals that are measured: what an event does for one, what follows from it, and what the model is told.

Which event moves a goal, and by how much, is found outside (`goal_commands`, for whoever reads events) and enters as
a command; what becomes of it is decided here, once for each event.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from processors.agents.state import Agent, GoalProgress
from processors.runtime.ledger import fingerprint
from processors.triggers.matching import wakes
from schemas.agents import AgentConfig, Goal, Period
from schemas.commands import AMOUNT_LIMIT, RecordGoalProgress
from schemas.conditions import Facts, compile_amount, compile_condition, event_facts
from schemas.errors import ConditionError
from schemas.events import Event, GoalProgressed
from schemas.module_events import TRIGGER_AHEAD_MS, TRIGGER_KEPT_MS, Trigger
from streams.records import format_time

DECIMALS = 6  # sums are rounded, so that 0.1 + 0.2 is 0.3; the same everywhere
OWN_PREFIX = "ai.goal."  # what goals say moves no goal: it would never end

_WORDS = {"gt": "more than", "gte": "at least", "lt": "less than", "lte": "at most", "eq": "exactly"}
_MONTHS: Mapping[Period, int] = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True, slots=True)
class Span:
    """A period of a goal, in Unix ms; `end_ms` is the first moment of the next one."""

    start_ms: int
    end_ms: int


# --- from an event to commands --------------------------------------------------------------------------------------


def measured(goals: Iterable[Goal]) -> tuple[Goal, ...]:
    """Return the goals that events move."""
    return tuple(goal for goal in goals if goal.event is not None)


def goal_commands(config: AgentConfig, event: Trigger) -> list[RecordGoalProgress]:
    """Return what `event` does for the goals of an agent: a command for each goal that it moves, mostly none.

    An expression that can't be evaluated for this event, or gives no number and no truth, moves nothing.
    """
    return commands_for(config.goals, event)


def commands_for(goals: Iterable[Goal], event: Trigger) -> list[RecordGoalProgress]:
    """Return what `event` does for these goals; see `goal_commands`."""
    event_type = event.event_type
    if event_type is None or event_type.startswith(OWN_PREFIX):
        return []
    moved = [goal for goal in goals if goal.event is not None and wakes(goal.event, event_type)]
    facts = facts_of(event) if moved else None
    commands = []
    for goal in moved:
        amount = amount_of(goal, facts) if facts is not None else None
        if amount is None or (amount == 0 and goal.aggregate == "sum") or abs(amount) > AMOUNT_LIMIT:
            continue
        commands.append(
            RecordGoalProgress(
                goal=goal.name,
                amount=amount,
                source=event.source,
                id=event.id,
                event_type=event_type,
                time_ms=event.time_ms,
            )
        )
    return commands


def amount_of(goal: Goal, facts: Facts) -> float | None:
    """Return by how much an event moves a goal: 1 or 0 for a truth; None where it does not."""
    try:
        if goal.condition is not None and not compile_condition(goal.condition).holds(facts):
            return None
        value = compile_amount(goal.progress).value(facts)
    except ConditionError:  # saved past the checks: it moves nothing
        return None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def facts_of(event: Trigger) -> Facts:
    """Return what expressions over an event are about."""
    return event_facts(
        type=event.event_type or "",
        source=event.source,
        id=event.id,
        subject=event.subject,
        time_ms=event.time_ms,
        data=event.data,
    )


# --- what follows ---------------------------------------------------------------------------------------------------


def progress_print(goal: str, source: str, id_: str) -> int:
    """Return the fingerprint of what one event did for one goal."""
    return fingerprint("goal", goal, source, id_)


def decide_progress(agent: Agent, command: RecordGoalProgress, at_ms: int) -> list[Event]:
    """Return what follows: nothing for an event that was counted, is too old to know, or is of a period long over."""
    goal = next((g for g in agent.config.goals if g.name == command.goal and g.event is not None), None)
    if goal is None or not agent.exists:
        return []
    stale = at_ms > command.time_ms + TRIGGER_KEPT_MS or command.time_ms > at_ms + TRIGGER_AHEAD_MS
    if stale or agent.triggers.remembers(progress_print(goal.name, command.source, command.id), at_ms):
        return []
    when_ms = min(command.time_ms, at_ms)  # a clock that is ahead must not end a period early
    span = span_of(goal.period, when_ms) if goal.period is not None else None
    before = agent.goals.get(goal.name, GoalProgress())
    if span is not None:
        if before.period_start_ms is not None and span.start_ms < before.period_start_ms:
            return []
        if before.period_start_ms != span.start_ms:
            before = GoalProgress(period_start_ms=span.start_ms)
    return [_progressed(goal, command, before, span, when_ms)]


def evolve_progress(agent: Agent, event: GoalProgressed, at_ms: int) -> None:
    """Assign what `event` says to `agent`."""
    agent.goals[event.goal] = GoalProgress(
        event.value, event.total, event.count, event.achieved_at_ms, event.period_start_ms
    )
    print_ = progress_print(event.goal, event.event_source, event.event_id)
    agent.triggers.remember(print_, event.event_time_ms + TRIGGER_KEPT_MS, at_ms)


def drop_unnamed(agent: Agent) -> None:
    """Drop the progress of goals that the configuration no longer names."""
    if agent.goals:
        named = {goal.name for goal in agent.config.goals}
        agent.goals = {name: progress for name, progress in agent.goals.items() if name in named}


def _progressed(
    goal: Goal, command: RecordGoalProgress, before: GoalProgress, span: Span | None, when_ms: int
) -> GoalProgressed:
    total, count = round(before.total + command.amount, DECIMALS), before.count + 1
    value = _value(goal, command.amount, total, count)
    achieved_at_ms = _achieved_at(goal, before.achieved_at_ms, value, when_ms)
    return GoalProgressed(
        goal=goal.name,
        event_source=command.source,
        event_id=command.id,
        event_type=command.event_type,
        event_time_ms=command.time_ms,
        amount=command.amount,
        delta=round(value - before.value, DECIMALS),
        value=value,
        total=total,
        count=count,
        achieved=achieved_at_ms is not None,
        achieved_at_ms=achieved_at_ms,
        period_start_ms=span.start_ms if span is not None else None,
        period_end_ms=span.end_ms if span is not None else None,
    )


def _value(goal: Goal, amount: float, total: float, count: int) -> float:
    match goal.aggregate:
        case "sum":
            return total
        case "last":
            return amount
        case "average":
            return round(total / count, DECIMALS)


def _achieved_at(goal: Goal, before_ms: int | None, value: float, when_ms: int) -> int | None:
    """Return since when the goal is met. One that does not recur stays met; after its deadline it can't be met."""
    if before_ms is not None and not goal.is_recurring:
        return before_ms
    if goal.target is None or not meets(value, goal.comparison, goal.target):
        return None
    deadline_ms = deadline_ms_of(goal)
    if before_ms is None and deadline_ms is not None and when_ms > deadline_ms:
        return None
    return when_ms if before_ms is None else before_ms


def meets(value: float, comparison: str, target: float) -> bool:
    """Whether a value meets a target."""
    match comparison:
        case "gt":
            return value > target
        case "gte":
            return value >= target
        case "lt":
            return value < target
        case "lte":
            return value <= target
        case _:
            return value == target


def deadline_ms_of(goal: Goal) -> int | None:
    """Return a goal's deadline in Unix ms; one without a time zone is in UTC."""
    if goal.deadline is None:
        return None
    moment = goal.deadline if goal.deadline.tzinfo is not None else goal.deadline.replace(tzinfo=UTC)
    return _ms(moment)


def span_of(period: Period, at_ms: int) -> Span:
    """Return the period, in UTC, in which `at_ms` lies. Weeks begin on Monday."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if period == "hour":
        return Span(_ms(hour), _ms(hour + timedelta(hours=1)))
    day = hour.replace(hour=0)
    if period == "day":
        return Span(_ms(day), _ms(day + timedelta(days=1)))
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return Span(_ms(monday), _ms(monday + timedelta(days=7)))
    months = _MONTHS[period]
    first = day.replace(month=(day.month - 1) // months * months + 1, day=1)
    month = first.month - 1 + months
    return Span(_ms(first), _ms(first.replace(year=first.year + month // 12, month=month % 12 + 1)))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


# --- what the model is told -----------------------------------------------------------------------------------------


def goal_lines(config: AgentConfig, progress: Mapping[str, GoalProgress], at_ms: int) -> list[str]:
    """Return an agent's goals, the most important first, with how far they were at `at_ms`: a function of the log."""
    goals = sorted(config.goals, key=lambda goal: -goal.priority)
    return [_line(goal, progress.get(goal.name), at_ms) for goal in goals]


def _line(goal: Goal, progress: GoalProgress | None, at_ms: int) -> str:
    parts = []
    if goal.target is not None:
        parts.append(f"{goal.metric or 'target'}: {_WORDS[goal.comparison]} {goal.target:.15g}")
    elif goal.metric:
        parts.append(goal.metric)
    if goal.event is not None:
        parts.append(_so_far(goal, progress, at_ms))
    deadline_ms = deadline_ms_of(goal)
    if deadline_ms is not None:
        over = ", which is over" if at_ms > deadline_ms else ""
        parts.append(f"due {format_time(deadline_ms)}{over}")
    told = f"- {goal.name}"
    if goal.description:
        told += f": {goal.description}"
    return f"{told} ({'; '.join(parts)})" if parts else told


def _so_far(goal: Goal, progress: GoalProgress | None, at_ms: int) -> str:
    within = f" this {goal.period}" if goal.period is not None else ""
    if progress is None or (goal.period is not None and _is_over(goal.period, progress, at_ms)):
        return f"nothing measured{within} yet"
    met = ", achieved" if progress.achieved_at_ms is not None else ""
    return f"{progress.value:.15g} so far{within}{met}"


def _is_over(period: Period, progress: GoalProgress, at_ms: int) -> bool:
    return progress.period_start_ms is None or progress.period_start_ms < span_of(period, at_ms).start_ms
