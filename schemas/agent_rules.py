"""What only some types of agents have: rules of delegation (orchestrators) and of monitoring (guardians).

Shapes only. Whether an expression is CEL, and what fits which type, is for `processors.agents.rules` to say: what
stands in the log must be readable for ever, also after rules grew stricter.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.message import Message

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(max_length=20_000)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[^/\s]{1,50}/\S{1,200}$")]  # provider/model
Glob = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:*-]{1,200}$")]

# CEL over `event` (type, source, id, subject, time, data) and `data`: see schemas.conditions.
Expression = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}[smhd]$")]
EventPath = Annotated[
    str, StringConstraints(pattern=r"^(data(\.[A-Za-z0-9_-]{1,100}){1,10}|subject|source|type)$", max_length=400)
]

_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration_s(text: str) -> int:
    """Return a `Duration` such as `5m` in seconds."""
    return int(text[:-1]) * _UNIT_S[text[-1]]


class DelegationRule(Message):
    """Where `condition` holds for what woke an orchestrator, `agent` is proposed to its model, or must be called."""

    condition: Expression
    agent: Slug
    mode: Literal["propose", "force"] = "propose"
    priority: Literal["low", "normal", "high"] = "normal"
    instructions: Text = ""


class MonitoringRule(Message):
    """What a guardian watches: `threshold` events within `window`, counted for each value of `key`.

    With `baseline`, a key's count is compared with that key's own moving average instead: `deviation` is by how many
    standard deviations it may exceed it, and `threshold` the least that is ever told.
    """

    name: Name
    event: Glob
    threshold: int = Field(default=1, ge=1, le=1_000_000_000)
    window: Duration = "5m"
    condition: Expression | None = None
    key: EventPath | None = None
    baseline: Literal["user_normal"] | None = None
    deviation: float = Field(default=3.0, gt=0, le=1_000_000, allow_inf_nan=False)
    severity: Literal["low", "medium", "high", "critical"] = "medium"
    description: Text = ""
