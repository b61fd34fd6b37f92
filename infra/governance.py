"""What sites may do, and what they hold to be risky: from a file, or as shipped. It enters the log with each run.

    permissions: [read_contacts, write_contacts, create_tasks]
    risk_rules:
      - {tool: "crm_delete_*", risk: critical}
      - {tool: order_create, argument: amount, threshold: 1000, risk: high}
    approvers:
      approver: [ann@example.com]
      finance: [bob@example.com, cho@example.com]
    sites:
      5d9c3f0a-6a0e-4f43-9c0e-2b1d6a7f1c11:
        permissions: [read_contacts]

What a site's own part says stands in place of what is said for all. `approvers` are told by email of what waits for a
role, when it waits: that gives nobody the role, and enters no agent's stream.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, get_args

import yaml
from pydantic import AfterValidator, Field, ValidationError

from infra.yaml_files import UNREADABLE
from processors.tools.builtin.communication import SEND_EMAIL
from processors.tools.validation import validator_for
from schemas.conditions import compile_condition
from schemas.errors import ConditionError, ConfigurationError
from schemas.governance import CALL, Permission, PermissionName, RiskRule, Role, SiteGrants
from schemas.ids import AnySiteId, SiteId
from schemas.message import Message

ALL: tuple[PermissionName, ...] = get_args(PermissionName)

# The specification's rules, of tools that there are or may be. Each raises what a tool says of itself.
SHIPPED = (
    RiskRule(tool="email_send", argument="to", threshold=10, risk="critical", explanation="it goes to many people"),
    RiskRule(tool="*_delete_*", risk="critical", explanation="it deletes"),
    RiskRule(tool="*_delete", risk="critical", explanation="it deletes"),
    RiskRule(tool="data_export*", risk="high", explanation="data leaves the house"),
    RiskRule(tool="settings_*", risk="high", explanation="it changes settings"),
)

ROLE_ADDRESSES = 50  # each gets an email of their own for each approval

# Stricter than the tool: what an operator writes by hand needs no other characters.
_BARE = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")


def _address(text: str) -> str:
    message = {"to": [text], "subject": "s", "body": "b"}
    if _BARE.fullmatch(text) is None or validator_for(SEND_EMAIL)(message) is not None:
        raise ValueError(f"{text[:80]!r} is not an email address such as ann@example.com")
    return text


Address = Annotated[str, AfterValidator(_address)]


class _Part(Message):
    permissions: tuple[Permission, ...] | None = None
    risk_rules: tuple[RiskRule, ...] | None = None
    approvers: dict[Role, Annotated[tuple[Address, ...], Field(max_length=ROLE_ADDRESSES)]] | None = None


class Governance(_Part):
    """What all sites may do and hold to be risky, and what is otherwise at single ones."""

    sites: dict[AnySiteId, _Part] = Field(default_factory=dict)

    def grants(self, site_id: SiteId, modules: Collection[str]) -> SiteGrants:
        """Return what holds at a site that has these modules."""
        own = self.sites.get(site_id, _Part())
        permissions = own.permissions if own.permissions is not None else self.permissions
        rules = own.risk_rules if own.risk_rules is not None else self.risk_rules
        return SiteGrants(
            permissions=ALL if permissions is None else permissions,
            modules=tuple(sorted(modules)),
            risk_rules=SHIPPED if rules is None else rules,
        )

    def named_approvers(self) -> list[tuple[SiteId | None, Role, str]]:
        """Return site, role and address of who is told of approvals; no site: all that name none of their own."""
        parts: list[tuple[SiteId | None, _Part]] = [(None, self), *self.sites.items()]
        return [
            (site_id, role, address)
            for site_id, part in parts
            for role, addresses in (part.approvers or {}).items()
            for address in addresses
        ]


def load_governance(path: Path | None) -> Governance:
    """Return what a file says; as shipped without one: all permissions, and the specification's rules.

    Raises:
        ConfigurationError: it can't be read, or is wrong; the message names the field.
    """
    if path is None:
        return Governance()
    try:
        told = yaml.safe_load(path.read_text())
        found = Governance.model_validate(told or {})
        for part in (found, *found.sites.values()):
            for rule in part.risk_rules or ():
                compile_condition(rule.condition or "true", CALL)
                if rule.threshold is not None and rule.argument is None:
                    raise ConfigurationError(f"{path}: the rule of {rule.tool!r} has a threshold and no argument")
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ConditionError:
        raise
    except UNREADABLE as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return found
