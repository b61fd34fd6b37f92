"""Which calls wait for a person first."""

from dataclasses import dataclass

from schemas.catalogue import RiskLevel, ToolDefinition
from schemas.message import JsonObject

APPROVAL_MS = 24 * 3_600_000  # how long a person may take

_GATED: frozenset[RiskLevel] = frozenset({"high", "critical"})


@dataclass(frozen=True, slots=True)
class Risk:
    """How risky a call is, and why; `gated`: a person is asked first."""

    level: RiskLevel
    explanation: str
    gated: bool


def assess(tool: ToolDefinition, arguments: JsonObject) -> Risk:
    """Return the risk of calling `tool` with `arguments`."""
    if tool.is_dangerous:
        return Risk(tool.risk, f"{tool.display_name} always needs a person's consent", gated=True)
    if tool.risk in _GATED:
        return Risk(tool.risk, f"{tool.display_name} is of {tool.risk} risk", gated=True)
    return Risk(tool.risk, "", gated=False)


def describe(tool: ToolDefinition, arguments: JsonObject) -> str:
    """Return a line for the person who is asked."""
    told = ", ".join(f"{name}={str(value)[:80]!r}" for name, value in sorted(arguments.items()))
    return f"{tool.display_name}: {told}"[:1_000]
