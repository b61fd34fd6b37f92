"""What the sandbox's modules do, each within the caller's transaction and one site.

Arguments come from a model. Their fields are named one by one and bound, never spliced; lookups are by site first.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from processors.tools.port import ToolError
from schemas.ids import UUID_PATTERN, SiteId, random_id
from schemas.message import Json, JsonObject

# Generic for the type checker only, so it stays text.
Db: TypeAlias = "PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"

SEARCH_DEFAULT = 10
SEARCH_LIMIT = 100


@dataclass(frozen=True, slots=True)
class ModuleEvent:
    """A change that a module tells the others of."""

    type: str
    source: str
    subject: str
    data: JsonObject


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change gives its caller, and what it tells the others."""

    result: JsonObject
    events: tuple[ModuleEvent, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done for a site. `by` says who wants it: `agent:<id>` or `user`."""

    site_id: SiteId
    by: str
    arguments: JsonObject = field(default_factory=dict)


# --- contacts -------------------------------------------------------------------------------------------------------

_CONTACT = (
    "id, email, first_name, last_name, company, phone, status, tags, custom_fields::text AS custom_fields, created_at"
)
GET_BY_ID = f"SELECT {_CONTACT} FROM sandbox.contacts WHERE site_id = $1 AND id = $2"  # noqa: S608 - our own columns
GET_BY_EMAIL = f"SELECT {_CONTACT} FROM sandbox.contacts WHERE site_id = $1 AND lower(email) = lower($2)"  # noqa: S608
SEARCH = """
SELECT id, email, first_name, last_name, company, status, tags, created_at FROM sandbox.contacts
WHERE site_id = $1
  AND (email ILIKE $2 OR concat_ws(' ', first_name, last_name) ILIKE $2 OR company ILIKE $2
       OR EXISTS (SELECT FROM unnest(tags) AS tag WHERE tag ILIKE $2))
  AND ($3::text[] IS NULL OR tags @> $3) AND ($4::text IS NULL OR status = $4)
ORDER BY created_at DESC, id LIMIT $5
"""
CREATE_CONTACT = f"""
INSERT INTO sandbox.contacts
    (site_id, id, email, first_name, last_name, company, phone, status, tags, custom_fields, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11)
ON CONFLICT DO NOTHING RETURNING {_CONTACT}
"""  # noqa: S608
UPDATE_CONTACT = f"""
UPDATE sandbox.contacts
SET first_name = coalesce($3, first_name), last_name = coalesce($4, last_name), company = coalesce($5, company),
    phone = coalesce($6, phone), status = coalesce($7, status), tags = coalesce($8, tags),
    custom_fields = custom_fields || $9::text::jsonb, updated_at = now()
WHERE site_id = $1 AND id = $2 RETURNING {_CONTACT}
"""  # noqa: S608
UPDATABLE = ("first_name", "last_name", "company", "phone", "status", "tags", "custom_fields")
ADD_NOTE = """
INSERT INTO sandbox.notes (site_id, id, contact_id, type, content, created_by)
SELECT $1, $2, id, $4, $5, $6 FROM sandbox.contacts WHERE site_id = $1 AND id = $3
RETURNING id, contact_id, type, content, created_at
"""


async def get_contact(db: Db, order: Order) -> Json:
    """Return one contact, by `contact_id` or `email`.

    Raises:
        ToolError: the site has no such contact.
    """
    contact_id, email = order.arguments.get("contact_id"), order.arguments.get("email")
    if contact_id is not None:
        row = await db.fetchrow(GET_BY_ID, order.site_id, _uuid(contact_id, "contact"))
    else:
        row = await db.fetchrow(GET_BY_EMAIL, order.site_id, email)
    if row is None:
        raise ToolError(f"There is no contact {contact_id or email!r}.")
    return _as_json(row)


async def search_contacts(db: Db, order: Order) -> Json:
    """Return the contacts whose name, email, company or tag contains `query`, newest first."""
    wanted = order.arguments
    limit = min(max(int(wanted.get("limit", SEARCH_DEFAULT)), 1), SEARCH_LIMIT)
    pattern = f"%{_escaped_like(str(wanted.get('query', '')).strip())}%"
    rows = await db.fetch(SEARCH, order.site_id, pattern, wanted.get("tags") or None, wanted.get("status"), limit)
    return {"contacts": [_as_json(row) for row in rows], "count": len(rows)}


async def create_contact(db: Db, order: Order) -> Changed:
    """Create a contact.

    Raises:
        ToolError: the site has one with this email.
    """
    given = order.arguments
    row = await db.fetchrow(
        CREATE_CONTACT,
        order.site_id,
        random_id(),
        given["email"],
        given.get("first_name"),
        given.get("last_name"),
        given.get("company"),
        given.get("phone"),
        given.get("status", "lead"),
        given.get("tags", []),
        orjson.dumps(given.get("custom_fields", {})).decode(),
        order.by,
    )
    if row is None:
        raise ToolError(f"There is a contact with the email {given['email']!r} already: look it up by email.")
    contact = _as_json(row)
    return Changed(contact, (_contact_event("crm.contact.created", contact),))


async def update_contact(db: Db, order: Order) -> Changed:
    """Change the named fields of a contact; `custom_fields` are merged.

    Raises:
        ToolError: the site has no such contact, or a field can't be changed.
    """
    contact_id, updates = order.arguments["contact_id"], order.arguments["updates"]
    if unknown := sorted(set(updates) - set(UPDATABLE)):
        raise ToolError(f"These fields can't be changed: {', '.join(unknown)[:200]}.")
    values = [updates.get(name) for name in UPDATABLE[:-1]]
    custom_fields = orjson.dumps(updates.get("custom_fields") or {}).decode()
    row = await db.fetchrow(UPDATE_CONTACT, order.site_id, _uuid(contact_id, "contact"), *values, custom_fields)
    if row is None:
        raise ToolError(f"There is no contact {contact_id!r}.")
    contact = _as_json(row)
    return Changed(contact, (_contact_event("crm.contact.updated", contact, changed=sorted(updates)),))


async def add_note(db: Db, order: Order) -> Changed:
    """Add a note to a contact.

    Raises:
        ToolError: the site has no such contact.
    """
    given = order.arguments
    contact_id = _uuid(given["contact_id"], "contact")
    kind, content = given.get("type", "note"), given["content"]
    row = await db.fetchrow(ADD_NOTE, order.site_id, random_id(), contact_id, kind, content, order.by)
    if row is None:
        raise ToolError(f"There is no contact {contact_id!r}.")
    note = _as_json(row)
    data = {"note_id": note["id"], "contact_id": note["contact_id"], "type": note["type"]}
    return Changed(note, (ModuleEvent("crm.note.added", "/crm", note["contact_id"], data),))


def _contact_event(event_type: str, contact: JsonObject, **more: Json) -> ModuleEvent:
    told = {name: value for name, value in contact.items() if name not in ("id", "created_at", "phone")}
    return ModuleEvent(event_type, "/crm", contact["id"], {"contact_id": contact["id"], **told, **more})


# --- tasks and emails -----------------------------------------------------------------------------------------------

CREATE_TASK = """
INSERT INTO sandbox.tasks (site_id, id, title, description, due_date, priority, assigned_to, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, title, description, due_date, priority, assigned_to, status, created_at
"""
KEEP_EMAIL = """
INSERT INTO sandbox.emails (site_id, id, status, recipients, subject, body, template_id, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id, status, recipients AS to, subject, created_at
"""


async def create_task(db: Db, order: Order) -> Changed:
    """Create a task.

    Raises:
        ToolError: the due date can't be read.
    """
    given = order.arguments
    row = await db.fetchrow(
        CREATE_TASK,
        order.site_id,
        random_id(),
        given["title"],
        given.get("description", ""),
        _moment(given.get("due_date")),
        given.get("priority", "medium"),
        given.get("assigned_to"),
        order.by,
    )
    task = _as_json(row)
    data = {"task_id": task["id"], **{name: task[name] for name in ("title", "due_date", "priority", "assigned_to")}}
    return Changed(task, (ModuleEvent("task.created", "/tasks", task["id"], data),))


async def draft_email(db: Db, order: Order) -> Changed:
    """Keep an email for a person to review."""
    return await _keep_email(db, order, "draft", "email.drafted")


async def send_email(db: Db, order: Order) -> Changed:
    """Keep an email as sent: nothing leaves the sandbox."""
    return await _keep_email(db, order, "sent", "email.sent")


async def _keep_email(db: Db, order: Order, status: str, event_type: str) -> Changed:
    given = order.arguments
    content = (given["to"], given["subject"], given["body"], given.get("template_id"))
    row = await db.fetchrow(KEEP_EMAIL, order.site_id, random_id(), status, *content, order.by)
    email = _as_json(row)
    data = {"email_id": email["id"], "to": email["to"], "subject": email["subject"]}
    return Changed(email, (ModuleEvent(event_type, "/email", email["id"], data),))


# --- calendar -------------------------------------------------------------------------------------------------------

CREATE_EVENT = """
INSERT INTO sandbox.calendar_events (site_id, id, title, description, start_time, end_time, attendees, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id, title, description, start_time, end_time, attendees, created_at
"""
BUSY = """
SELECT id, title, start_time, end_time FROM sandbox.calendar_events
WHERE site_id = $1 AND start_time < $3 AND end_time > $2 AND ($4::text IS NULL OR $4 = ANY(attendees))
ORDER BY start_time, id LIMIT $5
"""
BUSY_LIMIT = 50
LONGEST_SPAN = timedelta(days=92)


async def create_event(db: Db, order: Order) -> Changed:
    """Put an event into the calendar.

    Raises:
        ToolError: its times can't be read, or it ends before it begins.
    """
    given = order.arguments
    start, end = _span(given)
    content = (given["title"], given.get("description", ""), start, end, given.get("attendees", []))
    event = _as_json(await db.fetchrow(CREATE_EVENT, order.site_id, random_id(), *content, order.by))
    told = {name: event[name] for name in ("title", "start_time", "end_time", "attendees")}
    data = {"event_id": event["id"], **told}
    return Changed(event, (ModuleEvent("booking.event.created", "/booking", event["id"], data),))


async def check_availability(db: Db, order: Order) -> Json:
    """Say whether a span of time is free, and what is in it.

    Raises:
        ToolError: its times can't be read, or it is too long.
    """
    start, end = _span(order.arguments)
    if end - start > LONGEST_SPAN:
        raise ToolError(f"The span is longer than {LONGEST_SPAN.days} days: ask for a shorter one.")
    rows = await db.fetch(BUSY, order.site_id, start, end, order.arguments.get("user_id"), BUSY_LIMIT + 1)
    busy = [_as_json(row) for row in rows[:BUSY_LIMIT]]
    return {"available": not busy, "busy": busy, "more": len(rows) > BUSY_LIMIT}


def _span(given: JsonObject) -> tuple[datetime, datetime]:
    start, end = _moment(given["start_time"]), _moment(given["end_time"])
    if start is None or end is None or end <= start:
        raise ToolError("The end must come after the beginning.")
    return start, end


# --- values ---------------------------------------------------------------------------------------------------------


def _as_json(row: asyncpg.Record | None) -> JsonObject:
    """Return a row as JSON values: ids and times as text."""
    if row is None:
        raise AssertionError("an INSERT without a conflict clause returns its row")
    return {name: _json_value(name, value) for name, value in row.items()}


def _json_value(name: str, value: object) -> Json:
    if name == "custom_fields":
        return orjson.loads(str(value))
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | list) else str(value)


def _uuid(text: str, thing: str) -> str:
    lowered = text.lower()
    if UUID_PATTERN.fullmatch(lowered) is None:
        raise ToolError(f"{text[:80]!r} is not the id of a {thing}: ids are UUIDs; search for the {thing} first.")
    return lowered


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ToolError(f"The date {text[:80]!r} can't be read: write it like 2026-03-01T09:00:00Z.") from error
    if moment.tzinfo is None:
        raise ToolError(f"The date {text[:80]!r} has no time zone: write it like 2026-03-01T09:00:00Z.")
    return moment


def _escaped_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# --- the modules' doors ---------------------------------------------------------------------------------------------

READS: dict[tuple[str, str], Callable[[Db, Order], Awaitable[Json]]] = {
    ("crm", "getContact"): get_contact,
    ("crm", "searchContacts"): search_contacts,
    ("booking", "checkAvailability"): check_availability,
}
CHANGES: dict[tuple[str, str], Callable[[Db, Order], Awaitable[Changed]]] = {
    ("crm", "createContact"): create_contact,
    ("crm", "updateContact"): update_contact,
    ("crm", "addNote"): add_note,
    ("tasks", "createTask"): create_task,
    ("email", "createEmailDraft"): draft_email,
    ("email", "send"): send_email,
    ("booking", "createEvent"): create_event,
}
MODULES = frozenset(module for module, _ in (*READS, *CHANGES))
