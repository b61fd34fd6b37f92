"""The site's calendar, which its booking module keeps."""

from schemas.catalogue import ToolDefinition
from schemas.message import JsonObject


def _moment(what: str) -> JsonObject:
    return {
        "type": "string",
        "format": "date-time",
        "description": f"{what}, with a time zone, such as 2026-03-01T09:00:00Z.",
    }


# Medium: whoever is invited is told of it.
CREATE_EVENT = ToolDefinition(
    name="calendar_create_event",
    display_name="Create Calendar Event",
    description="Put an event into the calendar; its attendees are invited.",
    category="calendar",
    parameters={
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 300, "description": "What it is."},
            "start_time": _moment("When it begins"),
            "end_time": _moment("When it ends"),
            "attendees": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 320},
                "maxItems": 50,
                "uniqueItems": True,
                "description": "Who is invited: users' ids or email addresses.",
            },
            "description": {"type": "string", "maxLength": 10_000, "description": "What else should be known."},
        },
        "required": ["title", "start_time", "end_time"],
        "additionalProperties": False,
    },
    handler_type="module",
    module="booking",
    action="createEvent",
    requires_modules=("booking",),
    risk="medium",
)

CHECK_AVAILABILITY = ToolDefinition(
    name="calendar_check_availability",
    display_name="Check Availability",
    description="Say whether a span of time is free in the calendar, of all or of one user, and what is in it.",
    category="calendar",
    parameters={
        "type": "object",
        "properties": {
            "start_time": _moment("When the span begins"),
            "end_time": _moment("When it ends"),
            "user_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 320,
                "description": "Whose time: as events name attendees. All events if left out.",
            },
        },
        "required": ["start_time", "end_time"],
        "additionalProperties": False,
    },
    handler_type="module",
    module="booking",
    action="checkAvailability",
    requires_modules=("booking",),
)

TOOLS = (CREATE_EVENT, CHECK_AVAILABILITY)
