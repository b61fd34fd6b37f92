"""Reading the site's data: rows of one kind, or figures over them. Nothing here changes anything."""

from dataclasses import dataclass
from typing import Literal

from schemas.catalogue import ToolDefinition
from schemas.message import JsonObject

Kind = Literal["text", "id", "number", "time", "list"]

ROWS_DEFAULT = 100
ROWS_LIMIT = 500
GROUPS_LIMIT = 500
OPERATIONS = ("count", "sum", "mean", "min", "max")
PERIODS = ("day", "week", "month")


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of row: its fields, and the one that says when."""

    name: str
    fields: dict[str, Kind]
    time: str


ENTITIES: dict[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity(
            "contacts",
            {
                "id": "id",
                "email": "text",
                "first_name": "text",
                "last_name": "text",
                "company": "text",
                "status": "text",
                "tags": "list",
                "created_at": "time",
                "updated_at": "time",
            },
            "created_at",
        ),
        Entity("notes", {"id": "id", "contact_id": "id", "type": "text", "created_at": "time"}, "created_at"),
        Entity(
            "tasks",
            {
                "id": "id",
                "title": "text",
                "status": "text",
                "priority": "text",
                "assigned_to": "text",
                "due_date": "time",
                "created_at": "time",
            },
            "created_at",
        ),
        Entity("emails", {"id": "id", "status": "text", "subject": "text", "created_at": "time"}, "created_at"),
        Entity(
            "runs",
            {
                "id": "id",
                "agent_id": "id",
                "status": "text",
                "trigger_type": "text",
                "llm_calls": "number",
                "tool_calls": "number",
                "tokens_total": "number",
                "duration_ms": "number",
                "started_at": "time",
                "completed_at": "time",
            },
            "started_at",
        ),
    )
}

_FIELDS = "; ".join(f"{name}: {', '.join(entity.fields)}" for name, entity in ENTITIES.items())
_ENTITY: JsonObject = {"type": "string", "enum": [*ENTITIES], "description": f"What to read. Fields: {_FIELDS}."}
_NAME: JsonObject = {"type": "string", "maxLength": 60}
_SCALAR: JsonObject = {"type": ["string", "number", "integer"], "maxLength": 500}
_FILTERS: JsonObject = {
    "type": "object",
    "description": (
        'By field: a value; or {"in": [values]}; or {"from": value, "to": value}, the second one excluded. '
        "Times are written like 2026-03-01T00:00:00Z."
    ),
    "maxProperties": 10,
    "additionalProperties": {
        "anyOf": [
            _SCALAR,
            {
                "type": "object",
                "properties": {
                    "in": {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": 100},
                    "from": _SCALAR,
                    "to": _SCALAR,
                },
                "minProperties": 1,
                "additionalProperties": False,
            },
        ]
    },
}

QUERY = ToolDefinition(
    name="data_query",
    display_name="Query Data",
    description="Read rows of the site's data, filtered and ordered.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "entity_type": _ENTITY,
            "filters": _FILTERS,
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": ROWS_LIMIT,
                "default": ROWS_DEFAULT,
                "description": "How many rows to return at most.",
            },
            "order_by": {**_NAME, "description": "A field; with a minus before it, the highest or newest first."},
        },
        "required": ["entity_type"],
        "additionalProperties": False,
    },
    handler_type="internal",
    module="data",
    action="queryData",
    timeout_s=15.0,
)

AGGREGATE = ToolDefinition(
    name="data_aggregate",
    display_name="Aggregate Data",
    description="Count rows of the site's data, or sum up a number of theirs, in all or by groups.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "entity_type": _ENTITY,
            "metric": {
                "type": "string",
                "pattern": rf"^(count|({'|'.join(OPERATIONS[1:])}):[a-z_]{{1,60}})$",
                "description": "count, or sum, mean, min or max of a field with numbers, such as sum:tokens_total.",
            },
            "group_by": {**_NAME, "description": f"A field with text or ids, or a period: {', '.join(PERIODS)} (UTC)."},
            "date_range": {
                "type": "object",
                "description": "Only rows of these UTC days, both included.",
                "properties": {
                    "from": {"type": "string", "format": "date"},
                    "to": {"type": "string", "format": "date"},
                },
                "additionalProperties": False,
            },
            "filters": _FILTERS,
        },
        "required": ["entity_type", "metric"],
        "additionalProperties": False,
    },
    handler_type="internal",
    module="data",
    action="aggregateData",
    timeout_s=15.0,
)

TOOLS = (QUERY, AGGREGATE)
