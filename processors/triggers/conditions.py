"""The conditions of triggers: asked before a command is sent, so one that is not met costs no event.

What a condition is, and how it is checked and bounded, is said in `schemas.conditions`.
"""

import logging
from collections.abc import Iterable, Mapping

from processors.triggers.matching import Pattern
from schemas.agents import AgentConfig
from schemas.conditions import (
    EVENT,
    Condition,
    Expression,
    Facts,
    Variables,
    compile_condition,
    compile_number,
    event_facts,
)
from schemas.errors import ConditionError
from schemas.module_events import Trigger

__all__ = [
    "EVENT",
    "Condition",
    "Expression",
    "Facts",
    "Variables",
    "admits",
    "compile_condition",
    "compile_number",
    "facts_of",
    "patterns_of",
]

logger = logging.getLogger(__name__)

EVENT_TRIGGER = "event:"


def facts_of(trigger: Trigger) -> Facts:
    """Return what conditions over a trigger's event are about."""
    return event_facts(
        type=trigger.event_type or "",
        source=trigger.source,
        id=trigger.id,
        subject=trigger.subject,
        time_ms=trigger.time_ms,
        data=trigger.data,
    )


def patterns_of(triggers: Iterable[str], conditions: Mapping[str, str]) -> tuple[Pattern, ...]:
    """Return the globs of an agent's event triggers with their conditions.

    A condition that this release can't read, though it was saved, is never met, and neither is its glob.
    """
    patterns = []
    for trigger in triggers:
        if not trigger.startswith(EVENT_TRIGGER):
            continue
        text = conditions.get(trigger)
        try:
            condition = None if text is None else compile_condition(text)
        except ConditionError as error:
            logger.warning("the trigger %r wakes nobody: %s", trigger, error)
            continue
        patterns.append(Pattern(trigger.removeprefix(EVENT_TRIGGER), condition))
    return tuple(patterns)


def admits(config: AgentConfig, trigger: Trigger) -> bool:
    """Whether the conditions of an agent let a trigger of its own type through, such as a webhook's delivery.

    The events of modules and of agents are asked by the router, which knows the globs that they fit.
    """
    text = config.trigger_conditions.get(trigger.type)
    if text is None:
        return True
    try:
        return compile_condition(text).holds(facts_of(trigger))
    except ConditionError as error:
        logger.warning("the trigger %r of %r lets nothing through: %s", trigger.type, config.slug, error)
        return False
