"""Email: draft for a person to review, or send."""

from processors.tools.builtin.addresses import EMAIL_ADDRESS
from schemas.catalogue import ToolDefinition
from schemas.message import JsonObject

_MESSAGE: JsonObject = {
    "to": {
        "type": "array",
        "items": EMAIL_ADDRESS,
        "minItems": 1,
        "maxItems": 50,
        "uniqueItems": True,
        "description": "The recipients' email addresses, without names.",
    },
    "subject": {
        "type": "string",
        "minLength": 1,
        "maxLength": 300,
        "pattern": r"^[^\r\n]*$",  # a line break would begin a header of the caller's choice
        "description": "The subject, in one line.",
    },
    "body": {"type": "string", "minLength": 1, "maxLength": 50_000, "description": "The text of the email."},
}

# What leaves the house can't be called back: a person approves each one, unless a policy says otherwise.
SEND_EMAIL = ToolDefinition(
    name="email_send",
    display_name="Send Email",
    description="Send an email to one or more recipients. It can't be called back.",
    category="communication",
    parameters={
        "type": "object",
        "properties": {
            **_MESSAGE,
            "template_id": {"type": "string", "maxLength": 100, "description": "The template to lay it out with."},
        },
        "required": ["to", "subject", "body"],
        "additionalProperties": False,
    },
    handler_type="module",
    module="email",
    action="send",
    requires_permissions=("send_emails",),
    requires_modules=("email",),
    is_dangerous=True,
    risk="high",
)

DRAFT_EMAIL = ToolDefinition(
    name="email_draft",
    display_name="Draft Email",
    description="Create an email draft for a person to review. Nothing is sent.",
    category="communication",
    parameters={
        "type": "object",
        "properties": _MESSAGE,
        "required": ["to", "subject", "body"],
        "additionalProperties": False,
    },
    handler_type="internal",
    module="email",
    action="createEmailDraft",
    timeout_s=10.0,
)

TOOLS = (SEND_EMAIL, DRAFT_EMAIL)
