"""Telling people, and starting what the platform does by itself."""

from schemas.catalogue import ToolDefinition

# Medium: it can't be called back, but it reaches only the site's own people.
NOTIFY_USER = ToolDefinition(
    name="notify_user",
    display_name="Notify User",
    description="Send a notification to a user of the site, or to all who look after it. It can't be called back.",
    category="system",
    parameters={
        "type": "object",
        "properties": {
            "user_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "Whom to tell; all who look after the site if left out.",
            },
            "message": {"type": "string", "minLength": 1, "maxLength": 2_000, "description": "What to tell."},
            "channel": {
                "type": "string",
                "enum": ["in_app", "email", "sms"],
                "default": "in_app",
                "description": "How to tell it.",
            },
        },
        "required": ["message"],
        "additionalProperties": False,
    },
    handler_type="internal",
    module="notifications",
    action="notifyUser",
    risk="medium",
    timeout_s=15.0,
    rate_limit_per_minute=10,
    rate_limit_per_hour=60,
)

# What a workflow does is written elsewhere and can be anything: a person approves each start, unless a policy says
# otherwise.
TRIGGER_WORKFLOW = ToolDefinition(
    name="trigger_workflow",
    display_name="Trigger Workflow",
    description="Start an automation workflow of the site. It runs by itself; its outcome is not returned.",
    category="system",
    parameters={
        "type": "object",
        "properties": {
            "workflow_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]*$",
                "description": "The workflow's id.",
            },
            "input_data": {"type": "object", "maxProperties": 100, "description": "What the workflow is given."},
        },
        "required": ["workflow_id"],
        "additionalProperties": False,
    },
    handler_type="workflow",
    module="automation",
    action="trigger",
    requires_permissions=("trigger_workflows",),
    is_dangerous=True,
    risk="high",
    timeout_s=15.0,
    rate_limit_per_minute=10,
    rate_limit_per_hour=60,
)

TOOLS = (NOTIFY_USER, TRIGGER_WORKFLOW)
