"""Contacts: look up, search, create, change, note."""

from processors.tools.builtin.addresses import EMAIL_ADDRESS
from schemas.catalogue import ToolDefinition
from schemas.message import JsonObject

STATUSES = ("active", "inactive", "lead", "customer")
TIMEOUT_S = 10.0  # the platform's own database answers in much less

_CONTACT_ID: JsonObject = {"type": "string", "format": "uuid", "description": "The contact's UUID."}
_EMAIL: JsonObject = {**EMAIL_ADDRESS, "description": "The contact's email."}
_TAGS: JsonObject = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 100},
    "maxItems": 50,
}
_CUSTOM_FIELDS: JsonObject = {
    "type": "object",
    "description": "Fields of the site's own, by name.",
    "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": 2_000},
    "maxProperties": 50,
}


def _line(description: str, max_length: int = 200) -> JsonObject:
    return {"type": "string", "maxLength": max_length, "description": description}


GET_CONTACT = ToolDefinition(
    name="crm_get_contact",
    display_name="Get Contact",
    description="Retrieve a contact by ID or email address. Give exactly one of them.",
    category="crm",
    parameters={
        "type": "object",
        "properties": {"contact_id": _CONTACT_ID, "email": _EMAIL},
        "oneOf": [{"required": ["contact_id"]}, {"required": ["email"]}],
        "additionalProperties": False,
    },
    handler_type="module",
    module="crm",
    action="getContact",
    requires_permissions=("read_contacts",),
    requires_modules=("crm",),
    timeout_s=TIMEOUT_S,
)

SEARCH_CONTACTS = ToolDefinition(
    name="crm_search_contacts",
    display_name="Search Contacts",
    description="Search contacts by name, email, company or tags. Returns the matches, newest first, and their count.",
    category="crm",
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "maxLength": 200,
                "description": "Part of a name, an email address or a company, in any case; empty for all contacts.",
            },
            "tags": {**_TAGS, "description": "Only contacts that have all of these tags."},
            "status": {"type": "string", "enum": [*STATUSES], "description": "Only contacts of this status."},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
                "default": 10,
                "description": "How many contacts to return at most.",
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    handler_type="module",
    module="crm",
    action="searchContacts",
    requires_permissions=("read_contacts",),
    requires_modules=("crm",),
    timeout_s=TIMEOUT_S,
)

CREATE_CONTACT = ToolDefinition(
    name="crm_create_contact",
    display_name="Create Contact",
    description="Create a new contact in the CRM. Fails if the site has a contact with this email already.",
    category="crm",
    parameters={
        "type": "object",
        "properties": {
            "email": _EMAIL,
            "first_name": _line("First name."),
            "last_name": _line("Last name."),
            "company": _line("The company the contact works for."),
            "phone": _line("Phone number, as it was given.", 50),
            "tags": {**_TAGS, "description": "Tags to begin with."},
            "custom_fields": _CUSTOM_FIELDS,
        },
        "required": ["email"],
        "additionalProperties": False,
    },
    handler_type="module",
    module="crm",
    action="createContact",
    requires_permissions=("write_contacts",),
    requires_modules=("crm",),
    risk="medium",
    timeout_s=TIMEOUT_S,
)

# The fields are named one by one, so that no call can set a field that a model made up. The email address is not
# among them: it says who somebody is, and where a later email would go.
UPDATE_CONTACT = ToolDefinition(
    name="crm_update_contact",
    display_name="Update Contact",
    description="Change fields of an existing contact. Only the fields named in `updates` change.",
    category="crm",
    parameters={
        "type": "object",
        "properties": {
            "contact_id": _CONTACT_ID,
            "updates": {
                "type": "object",
                "description": "The new values, by field.",
                "properties": {
                    "first_name": _line("First name."),
                    "last_name": _line("Last name."),
                    "company": _line("The company the contact works for."),
                    "phone": _line("Phone number.", 50),
                    "status": {"type": "string", "enum": [*STATUSES], "description": "Where the contact stands."},
                    "tags": {**_TAGS, "description": "All tags from now on: those not given here are removed."},
                    "custom_fields": {**_CUSTOM_FIELDS, "description": "Fields of the site's own to set, by name."},
                },
                "minProperties": 1,
                "additionalProperties": False,
            },
        },
        "required": ["contact_id", "updates"],
        "additionalProperties": False,
    },
    handler_type="module",
    module="crm",
    action="updateContact",
    requires_permissions=("write_contacts",),
    requires_modules=("crm",),
    risk="medium",
    timeout_s=TIMEOUT_S,
)

ADD_NOTE = ToolDefinition(
    name="crm_add_note",
    display_name="Add Contact Note",
    description="Add a note to a contact's history.",
    category="crm",
    parameters={
        "type": "object",
        "properties": {
            "contact_id": _CONTACT_ID,
            "content": {"type": "string", "minLength": 1, "maxLength": 10_000, "description": "What to remember."},
            "type": {
                "type": "string",
                "enum": ["note", "call", "meeting", "email"],
                "default": "note",
                "description": "What the note is about.",
            },
        },
        "required": ["contact_id", "content"],
        "additionalProperties": False,
    },
    handler_type="module",
    module="crm",
    action="addNote",
    requires_permissions=("write_contacts",),
    requires_modules=("crm",),
    timeout_s=TIMEOUT_S,
)

TOOLS = (GET_CONTACT, SEARCH_CONTACTS, CREATE_CONTACT, UPDATE_CONTACT, ADD_NOTE)
