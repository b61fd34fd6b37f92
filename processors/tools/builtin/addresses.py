"""Email addresses in the arguments of our tools."""

from schemas.message import JsonObject

# The format alone takes `Ann <ann@example.com>` too, and quoted names with a comma or another address in them: then a
# rule over an address, such as that it ends with `@press.example`, would be evaded by how it is written.
EMAIL_ADDRESS: JsonObject = {
    "type": "string",
    "format": "email",
    "pattern": r'^[^\s<>",;:()\\\[\]@]+@[^\s<>",;:()\\\[\]@]+$',
    "maxLength": 320,
}
