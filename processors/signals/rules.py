"""A guardian's monitoring rule, as it is applied: which events it counts, by what key, and when that is too much."""

import hashlib
from dataclasses import dataclass

import orjson

from processors.triggers.matching import wakes
from schemas.agent_rules import MonitoringRule, duration_s
from schemas.conditions import Condition, Facts, compile_condition
from schemas.ids import AgentId
from schemas.message import Json
from schemas.module_events import Trigger

MAX_THRESHOLD = 10_000  # what is kept of a key is up to twice as many times, and is written with each event
MIN_WINDOW_MS, MAX_WINDOW_MS = 1_000, 7 * 86_400_000
KEY_CHARS = 200


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of one guardian. `deviation` is set where the key's own average is the measure, else `threshold` is.

    `version` is a fingerprint of all that decides what is counted: a rule that was changed counts from nothing.
    """

    agent_id: AgentId
    name: str
    event: str
    key: tuple[str, ...]
    threshold: int
    window_ms: int
    deviation: float | None
    severity: str
    ignore_own: bool
    condition: Condition | None
    version: str

    def key_of(self, trigger: Trigger) -> str | None:
        """Return what an event is counted under: "" for a rule without a key; None if the event has no such field."""
        if not self.key:
            return ""
        value: Json = {
            "type": trigger.event_type,
            "source": trigger.source,
            "subject": trigger.subject,
            "data": trigger.data,
        }
        for part in self.key:
            value = value.get(part) if isinstance(value, dict) else None
        return _as_key(value)

    def concerns(self, trigger: Trigger) -> bool:
        """Whether an event is of a type that this rule counts. What the guardian itself caused is not, unless told."""
        if self.ignore_own and trigger.caused_by == self.agent_id:
            return False
        return wakes(self.event, trigger.event_type or "")

    def holds(self, facts: Facts) -> bool:
        """Whether the rule's condition holds for an event."""
        return self.condition is None or self.condition.holds(facts)


def limits_fault(config: MonitoringRule) -> tuple[str, str] | None:
    """Return the field of a rule that is beyond what can be counted, and what can be; None if all can."""
    if config.threshold > MAX_THRESHOLD:
        return "threshold", f"{config.threshold} events can't be kept for each key: {MAX_THRESHOLD} is the most"
    if not MIN_WINDOW_MS <= duration_s(config.window) * 1_000 <= MAX_WINDOW_MS:
        return "window", f"{config.window} is too long: 7d is the most, as long as events are kept"
    return None


def rule_of(
    agent_id: AgentId,
    config: MonitoringRule,
    *,
    allow_own: bool = False,
) -> Rule:
    """Return the rule that `config` describes.

    Raises:
        ValueError: its window or threshold can't be applied; the message says what can.
        ConditionError: its condition is none.
    """
    if (fault := limits_fault(config)) is not None:
        raise ValueError(f"{fault[0]} of the rule {config.name!r}: {fault[1]}")
    window_ms = duration_s(config.window) * 1_000
    deviation = None if config.baseline is None else config.deviation
    counted = [config.event, config.key, config.condition, config.threshold, window_ms, deviation]
    return Rule(
        agent_id=agent_id,
        name=config.name,
        event=config.event.removeprefix("event:"),
        key=tuple(config.key.split(".")) if config.key else (),
        threshold=config.threshold,
        window_ms=window_ms,
        deviation=deviation,
        severity=config.severity,
        ignore_own=not allow_own,
        condition=None if config.condition is None else compile_condition(config.condition),
        version=hashlib.sha256(orjson.dumps(counted)).hexdigest()[:16],
    )


def _as_key(value: Json) -> str | None:
    """Return a scalar as a key; a long one by its beginning and its sha256, so that two never become one."""
    if value is None or isinstance(value, dict | list):
        return None
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if len(text) <= KEY_CHARS:
        return text
    return f"{text[: KEY_CHARS - 65]}#{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
