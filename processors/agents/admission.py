"""Whether a trigger starts a run: one decision, counted exactly, since all of an agent's runs are in its stream."""

from collections import deque

from processors.agents.state import DAY_MS, Agent
from processors.runtime.ledger import HOUR_MS, fingerprint
from processors.triggers.matching import wakes
from schemas.events import SkipReason
from schemas.module_events import TRIGGER_AHEAD_MS, TRIGGER_KEPT_MS, Trigger


def trigger_print(trigger: Trigger) -> int:
    """Return the fingerprint of a trigger: (source, id) names it, as CloudEvents says."""
    return fingerprint(trigger.source, trigger.id)


def refuse(agent: Agent, trigger: Trigger, live_runs: int, at_ms: int) -> tuple[SkipReason, str] | None:
    """Return why `trigger` may not start a run at `at_ms`, in a word and in a sentence; None if it may."""
    if at_ms > trigger.time_ms + TRIGGER_KEPT_MS:
        return "stale", f"the trigger is of {(at_ms - trigger.time_ms) // DAY_MS} days ago"
    if trigger.time_ms > at_ms + TRIGGER_AHEAD_MS:
        return "future", "the trigger's time is more than a day ahead"
    if not agent.active:
        return "inactive", _why_inactive(agent)
    if not _is_allowed(agent, trigger):
        return "not_allowed", f"the agent does not listen to {trigger.event_type or trigger.type!r}"
    return _loop(agent, trigger) or _quota(agent, live_runs, at_ms)


def _why_inactive(agent: Agent) -> str:
    if agent.exists:
        return "the agent is not active"
    return "the agent was deleted" if agent.version else "there is no such agent"


def _is_allowed(agent: Agent, trigger: Trigger) -> bool:
    config = agent.config
    if trigger.type == "event":
        return any(wakes(pattern, trigger.event_type or "") for pattern in config.event_patterns)
    if trigger.type == "schedule":
        return bool(config.schedule_keys)
    return trigger.type == "delegation" or trigger.type in config.triggers


def _loop(agent: Agent, trigger: Trigger) -> tuple[SkipReason, str] | None:
    config = agent.config
    if trigger.caused_by == agent.id and not config.allow_self_trigger:
        return "loop", "the agent caused this event itself"
    if trigger.depth > config.max_causation_depth:
        return "loop", f"{trigger.depth} runs led to this event, {config.max_causation_depth} are allowed"
    return None


def _quota(agent: Agent, live_runs: int, at_ms: int) -> tuple[SkipReason, str] | None:
    config = agent.config
    if live_runs >= config.max_concurrent_runs:
        return "concurrency", f"{live_runs} runs are under way, {config.max_concurrent_runs} are allowed"
    if _within(agent.hour, at_ms - HOUR_MS) >= config.max_runs_per_hour:
        return "quota", f"{config.max_runs_per_hour} runs an hour are allowed"
    if _within(agent.day, at_ms - DAY_MS) >= config.max_runs_per_day:
        return "quota", f"{config.max_runs_per_day} runs a day are allowed"
    return None


def _within(starts: deque[int], after_ms: int) -> int:
    """How many of `starts`, in ascending order, are later than `after_ms`; the old ones stand in front, and are few."""
    old = 0
    for start in starts:
        if start > after_ms:
            break
        old += 1
    return len(starts) - old
