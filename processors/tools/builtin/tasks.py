"""Tasks for people."""

from schemas.catalogue import ToolDefinition

CREATE_TASK = ToolDefinition(
    name="task_create",
    display_name="Create Task",
    description="Create a task for a person.",
    category="task",
    parameters={
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 300, "description": "What is to be done."},
            "description": {"type": "string", "maxLength": 10_000, "description": "What helps to do it."},
            "due_date": {
                "type": "string",
                "format": "date-time",
                "description": "When it is due, with a time zone, such as 2026-03-01T09:00:00Z.",
            },
            "priority": {
                "type": "string",
                "enum": ["low", "medium", "high"],
                "default": "medium",
                "description": "How much it matters.",
            },
            "assigned_to": {"type": "string", "maxLength": 200, "description": "Who is to do it: a user or a team."},
        },
        "required": ["title"],
        "additionalProperties": False,
    },
    handler_type="internal",
    module="tasks",
    action="createTask",
    requires_permissions=("create_tasks",),
    timeout_s=10.0,
)

TOOLS = (CREATE_TASK,)
