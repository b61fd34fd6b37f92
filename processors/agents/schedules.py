"""Following a schedule: which time is due, which were missed, and when it comes next.

`follow` asks the calendar and the time zones' rules, which differ from machine to machine, so it belongs to an effect,
and what it found enters the log as a command. `accepts` and `due_trigger` are the decider's: functions of the log.
"""

from collections import deque
from itertools import islice, takewhile

from processors.agents.state import Agent
from schemas.agents import AgentConfig
from schemas.commands import AdvanceSchedule
from schemas.module_events import Trigger
from schemas.schedules import Schedule, parse_schedule
from streams.rfc3339 import format_time

GRACE_MS = 300_000  # later than this a time counts as missed where missed ones are skipped: a restart takes less
COUNTED = 1_000  # missed times are counted up to here
SOURCE = "/schedules"


def follow(config: AgentConfig, key: str, after_ms: int, now_ms: int) -> AdvanceSchedule | None:
    """Return how to go on with a schedule that was followed up to `after_ms`; None if it is not in force.

    Of several times that are due by now, `missed_runs` says which start a run: `once` the last, `skip` the last if it
    is not long ago, `all` one after the other, at most the last `max_missed_runs` of them.

    Raises:
        ValueError: this machine can't follow it: it does not know its time zone.
    """
    if key not in config.schedule_keys:
        return None
    schedule = parse_schedule(key)
    due, count, next_ms = _due(schedule, after_ms, now_ms, config.max_missed_runs if config.missed_runs == "all" else 1)
    if not due:
        return AdvanceSchedule(schedule=key, after_ms=after_ms, until_ms=after_ms, next_due_ms=next_ms)
    first, following = due[0], due[1] if len(due) > 1 else next_ms
    starts = config.missed_runs != "skip" or now_ms - first <= GRACE_MS
    return AdvanceSchedule(
        schedule=key,
        after_ms=after_ms,
        until_ms=first,
        due_ms=first if starts else None,
        missed=count - len(due) + (not starts),
        next_due_ms=following,
    )


def _due(schedule: Schedule, after_ms: int, now_ms: int, most: int) -> tuple[list[int], int, int | None]:
    """Return the last `most` times after `after_ms` and until now, how many there were, and the first one to come."""
    kept: deque[int] = deque(maxlen=most)
    count, times = 0, schedule.after(after_ms)
    for due_ms in times:
        if due_ms > now_ms:
            return list(kept), count, due_ms
        kept.append(due_ms)
        count += 1
        if count == COUNTED:  # a long while: go on near its end
            begin_ms = next(islice(schedule.before(now_ms), most, None), due_ms)
            late = list(takewhile(lambda due_ms: due_ms <= now_ms, schedule.after(max(begin_ms, due_ms))))
            kept.extend(late)
            return list(kept), count + len(late), schedule.next_after(now_ms)
    return list(kept), count, None


def accepts(agent: Agent, command: AdvanceSchedule, at_ms: int) -> bool:
    """Whether a command goes on from where its schedule stands, and says of no time to come that it is due."""
    planned = agent.schedules.get(command.schedule)
    if planned is None or command.after_ms != planned.after_ms or not planned.after_ms <= command.until_ms <= at_ms:
        return False
    if command.due_ms is not None and not planned.after_ms < command.due_ms <= command.until_ms:
        return False
    if command.next_due_ms is not None and command.next_due_ms <= command.until_ms:
        return False
    moves = command.until_ms > planned.after_ms
    return moves or not planned.known or command.next_due_ms != planned.next_due_ms


def due_trigger(command: AdvanceSchedule, due_ms: int) -> Trigger:
    """Return the trigger of a time that is due: its name is the schedule and the time, so it starts one run."""
    due = format_time(due_ms)
    return Trigger(
        type="schedule",
        source=SOURCE,
        id=f"{command.schedule} {due}",
        time_ms=max(0, due_ms),
        data={"schedule": command.schedule, "due": due, "missed": command.missed},
    )
