"""Which rights a call needs: those of its tool, and more where its arguments ask for what others guard."""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.catalogue import ToolDefinition
from schemas.governance import PermissionName
from schemas.message import JsonObject


class _Guarded(NamedTuple):
    """The argument that says what is asked for, and the right that each of its values needs."""

    argument: str
    needs: Mapping[str, PermissionName]


# Who may not read contacts one by one may not read them in a table either.
_DATA = _Guarded("entity_type", {"contacts": "read_contacts", "notes": "read_contacts", "emails": "read_contacts"})

_GUARDED: Mapping[tuple[str | None, str | None], _Guarded] = {
    ("data", "queryData"): _DATA,
    ("data", "aggregateData"): _DATA,
    ("notifications", "notifyUser"): _Guarded("channel", {"email": "send_emails", "sms": "send_sms"}),
}


def rights_of(tool: ToolDefinition, arguments: JsonObject) -> tuple[str, ...]:
    """Return the rights that agent, site and requester must have for this very call."""
    guarded = _GUARDED.get((tool.module, tool.action)) if tool.handler_type == "internal" else None
    if guarded is None:
        return tool.requires_permissions
    asked = arguments.get(guarded.argument)
    more = guarded.needs.get(asked) if isinstance(asked, str) else None
    return tool.requires_permissions if more is None else (*tool.requires_permissions, more)
