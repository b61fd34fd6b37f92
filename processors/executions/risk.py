"""How risky a call is, why, and whether a person is asked first. Rules only ever raise what a tool says of itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from processors.agents.state import Agent
from processors.executions.conditions import may_hold
from processors.executions.state import Run
from processors.tools.globs import matches, matches_any
from schemas.catalogue import RiskLevel, ToolDefinition
from schemas.governance import RISKS, RiskRule
from schemas.message import Json, JsonObject

APPROVAL_MS = 24 * 3_600_000  # how long a person may take, where the agent's owner said nothing else
EXPLANATION_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Risk:
    """How risky a call is, and why; `gated`: a person is asked first."""

    level: RiskLevel
    explanation: str
    gated: bool


def assess(agent: Agent, run: Run, tool: ToolDefinition, arguments: JsonObject) -> Risk:
    """Return the risk of calling `tool` with `arguments`: the highest of the tool's own, and of what rules say of it.

    A person is asked from the agent's `approval_threshold` on, for what is critical, for dangerous tools, and where a
    constraint of the agent says so.
    """
    config = agent.config
    level, reasons, gated = tool.risk, [], False
    if tool.is_dangerous:
        level, gated = _higher(level, "high"), True
        reasons.append(f"{tool.display_name} always needs a person's consent")
    elif tool.risk in ("high", "critical"):
        reasons.append(f"{tool.display_name} is of {tool.risk} risk")
    site_rules = agent.site.risk_rules if agent.site is not None else ()
    for rule in (*site_rules, *config.risk_rules):
        if matches(rule.tool, tool.name) and _holds(rule, agent, run, tool, arguments):
            level = _higher(level, rule.risk)
            reasons.append(rule.explanation or _words(rule))
    for constraint in config.enforced_constraints:
        if constraint.effect != "approve" or not matches_any(constraint.tools, tool.name):
            continue
        if may_hold(constraint.condition, agent, run, tool, arguments):
            level, gated = _higher(level, "high"), True
            reasons.append(constraint.text.strip())
    gated = gated or level == "critical" or RISKS.index(level) >= RISKS.index(config.approval_threshold)
    if gated and not reasons:
        reasons.append(f"{tool.display_name} is of {level} risk")
    return Risk(level, "; ".join(dict.fromkeys(reasons))[:EXPLANATION_CHARS], gated)


def describe(tool: ToolDefinition, arguments: JsonObject) -> str:
    """Return a line for the person who is asked."""
    told = ", ".join(f"{name}={str(value)[:80]!r}" for name, value in sorted(arguments.items()))
    return f"{tool.display_name}: {told}"[:1_000]


def _higher(one: RiskLevel, other: RiskLevel) -> RiskLevel:
    return max(one, other, key=RISKS.index)


def _holds(rule: RiskRule, agent: Agent, run: Run, tool: ToolDefinition, arguments: JsonObject) -> bool:
    if rule.argument is not None:
        values = list(_values(arguments, rule.argument.split(".")))
        if not any(rule.threshold is None or _meets(value, rule, rule.threshold) for value in values):
            return False
    return may_hold(rule.condition, agent, run, tool, arguments)


def _values(value: Json, path: Sequence[str]) -> Iterator[Json]:
    """Yield what stands at `path`; where a list stands on the way, what stands there in each of its items."""
    if not path:
        yield value
    elif isinstance(value, dict):
        if path[0] in value:
            yield from _values(value[path[0]], path[1:])
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, path)


def _meets(value: Json, rule: RiskRule, threshold: float) -> bool:
    """Whether a value meets the threshold; what can't be compared does, since it can't be said to be harmless."""
    if isinstance(value, list):
        value = len(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is not None
    match rule.comparison:
        case "gt":
            return value > threshold
        case "gte":
            return value >= threshold
        case "lt":
            return value < threshold
        case "lte":
            return value <= threshold


_SIGNS = {"gt": "above", "gte": "at or above", "lt": "below", "lte": "at or below"}


def _words(rule: RiskRule) -> str:
    said = f"a rule holds {rule.tool!r} to be of {rule.risk} risk"
    if rule.argument is not None:
        limit = "is given" if rule.threshold is None else f"is {_SIGNS[rule.comparison]} {rule.threshold:g}"
        said += f" where {rule.argument!r} {limit}"
    if rule.condition is not None:
        said += f" where {rule.condition[:200]}"
    return said
