"""Who may do what, what is risky, and who is asked first: the words of policy, risk and approvals.

Shapes only: what follows from them is for `processors.executions.policy`, `risk` and `acting` to say.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from schemas.agent_rules import Expression, Glob, Text
from schemas.catalogue import RiskLevel
from schemas.conditions import Variables
from schemas.message import Message

PermissionName = Literal[
    "read_contacts",
    "write_contacts",
    "delete_contacts",
    "read_deals",
    "write_deals",
    "read_financials",
    "send_emails",
    "send_sms",
    "make_api_calls",
    "trigger_workflows",
    "access_web",
    "access_external_apis",
    "create_tasks",
    "modify_settings",
]

# The specification's names of the fourteen, where they are more than ours with `can` before them.
_SPELLED = {
    "canSendSMS": "send_sms",
    "canMakeAPICalls": "make_api_calls",
    "canAccessExternalAPIs": "access_external_apis",
}


def permission_name(written: object) -> object:
    """Return our name of a permission for one as the specification writes it (`canReadContacts`)."""
    if not isinstance(written, str) or not written.startswith("can"):
        return written
    bare = written.removeprefix("can")
    snake = "".join(f"_{each.lower()}" if each.isupper() else each for each in bare).removeprefix("_")
    return _SPELLED.get(written, snake)


Permission = Annotated[PermissionName, BeforeValidator(permission_name)]
Role = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ArgumentPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]{1,100}){0,9}$", max_length=400)
]

APPROVER: Role = "approver"
RISKS: tuple[RiskLevel, ...] = ("low", "medium", "high", "critical")
"""From harmless to what always waits for a person."""

CALL: Variables = {
    "tool": "text",
    "arguments": "any",
    "agent.slug": "text",
    "agent.type": "text",
    "trigger.type": "text",
    "trigger.event_type": "text",
    "trigger.source": "text",
    "trigger.subject": "text",
    "trigger.data": "any",
}
"""What a condition over a tool call knows."""


class RiskRule(Message):
    """Calls of `tool` (a glob) are of `risk` at least, where `argument` meets the threshold and `condition` holds.

    A number is compared itself, a list by its length; other values can't be compared, and count as met: a rule is
    there to be careful. A rule can only raise a call's risk.
    """

    tool: Glob
    risk: RiskLevel = "high"
    argument: ArgumentPath | None = None
    comparison: Literal["gt", "gte", "lt", "lte"] = "gte"
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    condition: Expression | None = None
    explanation: str = Field(default="", max_length=500)


class EnforcedConstraint(Message):
    """What the model is told by `text`, and held to: calls of `tools` where `condition` holds wait, or are denied."""

    text: Text
    tools: tuple[Glob, ...] = Field(default=("*",), max_length=100)
    condition: Expression | None = None
    effect: Literal["approve", "deny"] = "approve"


class Requester(Message):
    """The person for whom a run works, as the edge that authenticated them said, and their rights."""

    actor: str = Field(max_length=200)
    rights: tuple[Permission, ...] = Field(default=(), max_length=100)


class SiteGrants(Message):
    """What a site may do at all, which modules it has, and what it holds to be risky."""

    permissions: tuple[Permission, ...] = Field(default=(), max_length=100)
    modules: tuple[str, ...] = Field(default=(), max_length=1_000)
    risk_rules: tuple[RiskRule, ...] = Field(default=(), max_length=200)
