"""A site's own tool as its file describes it: a call of somebody's HTTP API.

    name: order_cancel
    display_name: Cancel Order
    description: Cancel a pending order. It can't be undone.
    risk: high
    idempotent: true                      # the API honours Idempotency-Key
    parameters:
      type: object
      properties: {order_id: {type: string}, reason: {type: string}}
      required: [order_id, reason]
    http:
      method: POST
      url: https://api.example.com/orders/{order_id}/cancel
      headers: {Authorization: "Bearer {secret}"}

Arguments that the URL does not name are the body, as a JSON object; of GET and DELETE, the query.
"""

import re
from typing import Annotated, Literal
from urllib.parse import quote

import httpx2
import orjson
from pydantic import Field, StringConstraints, field_validator, model_validator

from processors.tools.port import ToolError
from processors.tools.validation import validator_for
from schemas.catalogue import RiskLevel, ToolDefinition
from schemas.delegation import DELEGATE
from schemas.governance import Permission
from schemas.message import Json, JsonObject, Message

MODULE, ACTION = "http", "call"
RESERVED = "mcp_"  # begins the names of tools of MCP servers
SECRET = "{secret}"  # noqa: S105 - where the secret stands in a header
TIMEOUT_S = 30.0

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,62}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_AUTHORITY = re.compile(r"https?://[^/?#{}]+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# Ours to say, or the connection's.
_OURS = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
) | {"accept-encoding", "idempotency-key", "cookie"}


class HttpCall(Message):
    """How a call is made. `{name}` in the URL stands for an argument, `{secret}` in a header for the tool's secret."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    url: str = Field(max_length=2_000)
    headers: dict[str, str] = Field(default={}, max_length=20)

    @field_validator("url")
    @classmethod
    def _fixed_host(cls, url: str) -> str:
        if _AUTHORITY.match(url) is None:
            raise ValueError("begins with https:// and a host, in which no argument stands")
        if "#" in url or "{" in _PLACE.sub("", url) or "}" in _PLACE.sub("", url):
            raise ValueError("holds arguments as {name}, and no other braces and no #")
        return url

    @field_validator("headers")
    @classmethod
    def _plain(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _HEADER.fullmatch(name) is None or name.lower() in _OURS or name.lower().startswith("x-dramac-"):
                raise ValueError(f"the header {name!r:.60} is none that a tool may set")
            if not value.isascii() or not value.isprintable() or len(value) > 1_000:
                raise ValueError(f"the header {name!r} is plain ASCII text, at most 1,000 characters")
            if "{" in value.replace(SECRET, ""):
                raise ValueError(f"the header {name!r} may hold {SECRET} and no other braces")
        return headers

    @property
    def needs_secret(self) -> bool:
        """Whether a secret stands in a header."""
        return any(SECRET in value for value in self.headers.values())

    @property
    def places(self) -> tuple[str, ...]:
        """The arguments that stand in the URL."""
        return tuple(_PLACE.findall(self.url))

    def request(self, arguments: JsonObject) -> tuple[str, bytes | None]:
        """Return the URL and the body of a call with these arguments.

        Raises:
            ToolError: an argument does not fit into a URL.
        """
        named = self.places
        url = _PLACE.sub(lambda found: _segment(found[1], arguments.get(found[1])), self.url)
        rest = {name: value for name, value in arguments.items() if name not in named}
        if self.method not in ("GET", "DELETE"):
            return url, orjson.dumps(rest)
        if rest:
            query = str(httpx2.QueryParams([(name, _text(name, value)) for name, value in rest.items()]))
            url += ("&" if "?" in url else "?") + query
        return url, None


class HttpTool(Message):
    """A tool of a site, as a person describes it."""

    name: ToolName
    display_name: str = Field(default="", max_length=200)
    description: str = Field(min_length=1, max_length=4_000)
    category: Word = "custom"
    parameters: JsonObject = Field(default_factory=lambda: {"type": "object", "additionalProperties": False})
    http: HttpCall
    idempotent: bool | None = Field(default=None, description="reading is; anything else only if the API says so")
    risk: RiskLevel | None = Field(default=None, description="low for GET, high for what changes something")
    is_dangerous: bool = False
    requires_permissions: tuple[Permission, ...] = Field(default=("access_external_apis",), max_length=14)
    requires_modules: tuple[Word, ...] = Field(default=(), max_length=20)
    rate_limit_per_minute: int | None = Field(default=None, ge=1)
    rate_limit_per_hour: int | None = Field(default=None, ge=1)
    timeout_s: float = Field(default=TIMEOUT_S, gt=0, le=300)

    @model_validator(mode="after")
    def _consistent(self) -> "HttpTool":
        if self.name.startswith(RESERVED) or self.name == DELEGATE:
            raise ValueError(f"the name {self.name!r} is taken by the system: give the tool another one")
        if self.parameters.get("type") != "object":
            raise ValueError("parameters is a JSON Schema of type object")
        required = self.parameters.get("required", ())
        for place in self.http.places:
            if place not in required:
                raise ValueError(f"the URL holds {{{place}}}: name it in parameters.required")
        validator_for(self.definition(1))
        return self

    def definition(self, version: int) -> ToolDefinition:
        """Return what models and the policy see of it."""
        reads = self.http.method == "GET"
        return ToolDefinition(
            name=self.name,
            version=str(version),
            display_name=self.display_name or self.name.replace("_", " ").title(),
            description=self.description,
            category=self.category,
            parameters=self.parameters,
            handler_type="external",
            module=MODULE,
            action=ACTION,
            requires_permissions=self.requires_permissions,
            requires_modules=self.requires_modules,
            rate_limit_per_minute=self.rate_limit_per_minute,
            rate_limit_per_hour=self.rate_limit_per_hour,
            is_dangerous=self.is_dangerous,
            risk=self.risk or ("low" if reads else "high"),
            idempotent=reads if self.idempotent is None else self.idempotent,
            timeout_s=self.timeout_s,
        )


def _segment(name: str, value: Json) -> str:
    text = _text(name, value)
    if text in ("", ".", ".."):  # a server would take them for another path
        raise ToolError(f"The argument {name!r} can't stand in an address: {text!r}.")
    return quote(text, safe="")


def _text(name: str, value: Json) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(value)
        case None:
            raise ToolError(f"The argument {name!r} is missing.")
        case _:
            return orjson.dumps(value).decode()
