"""Asking about the site's own data, in a declared language: never in SQL."""

from schemas.catalogue import ToolDefinition
from schemas.message import JsonObject

ENTITIES = ("agents", "approvals", "contacts", "emails", "executions", "notes", "tasks", "tool_calls", "usage")

_ENTITY: JsonObject = {
    "type": "string",
    "minLength": 1,
    "maxLength": 64,
    "description": f"What to ask about: {', '.join(ENTITIES)}.",
}
_FILTERS: JsonObject = {
    "type": "object",
    "maxProperties": 20,
    "description": (
        'Conditions by field, all of which must hold: a value, such as {"status": "lead"}, or operators, such as '
        '{"created_at": {"gte": "2026-01-01T00:00:00Z"}}. Operators: eq, ne, lt, lte, gt, gte, in, contains, '
        "starts_with, is_null."
    ),
}

DATA_QUERY = ToolDefinition(
    name="data_query",
    display_name="Query Data",
    description=(
        "Find records of the site. An unknown entity or field is answered with those that there are. Long texts are "
        "cut; `more` says whether there were further records."
    ),
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "entity_type": _ENTITY,
            "filters": _FILTERS,
            "fields": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 64},
                "minItems": 1,
                "maxItems": 40,
                "description": "The fields to return; all if left out.",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": 200,
                "default": 100,
                "description": "How many records to return at most.",
            },
            "order_by": {
                "type": "string",
                "minLength": 1,
                "maxLength": 65,
                "description": "The field to sort by; with a minus before it, such as -created_at, downwards.",
            },
        },
        "required": ["entity_type"],
        "additionalProperties": False,
    },
    handler_type="internal",
    module="data",
    action="queryData",
    rate_limit_per_minute=60,
)

DATA_AGGREGATE = ToolDefinition(
    name="data_aggregate",
    display_name="Aggregate Data",
    description="Count or add up records of the site, all together or by group. The largest groups come first.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "entity_type": _ENTITY,
            "metric": {
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
                "description": "count, or sum, avg, min, max or count_distinct of a field, such as sum(cost_micros).",
            },
            "group_by": {
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
                "description": "A field, or day, week or month of a time, such as month(created_at).",
            },
            "filters": _FILTERS,
            "date_range": {
                "type": "object",
                "properties": {
                    "from": {"type": "string", "maxLength": 40, "description": "From this time or day on."},
                    "to": {"type": "string", "maxLength": 40, "description": "Before this time or day."},
                    "field": {"type": "string", "maxLength": 64, "description": "By this time, if not the usual."},
                },
                "minProperties": 1,
                "additionalProperties": False,
                "description": "Only records of this span of time, such as from 2026-01-01 to 2026-02-01.",
            },
        },
        "required": ["entity_type", "metric"],
        "additionalProperties": False,
    },
    handler_type="internal",
    module="data",
    action="aggregateData",
    rate_limit_per_minute=60,
)

TOOLS = (DATA_QUERY, DATA_AGGREGATE)
