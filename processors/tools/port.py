"""What a tool is to the rest of the house: a call with an idempotency key, and what came of it."""

from dataclasses import dataclass
from typing import Protocol

from schemas.catalogue import ToolDefinition
from schemas.errors import DramacError, UnavailableError
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.message import Json, JsonObject


class ToolError(DramacError):
    """A tool refused or failed; the message is written for the model, which reads it.

    `retryable`: nothing was done, and the same call may succeed if it is made again, `retry_after_s` from now at best.
    """

    def __init__(self, message: str, *, retryable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class BusyError(UnavailableError):
    """A module does not answer, and may have acted; it asks to be left alone for `retry_after_s`, if that is known."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call, its arguments checked against the tool's schema and permitted.

    `call_id` is the idempotency key: a second request with it must not act a second time. `depth` counts the
    runs that led to this call's run; a module event that the call causes is one deeper.
    """

    call_id: CallId
    tool: ToolDefinition
    arguments: JsonObject
    site_id: SiteId
    agent_id: AgentId
    execution_id: ExecutionId
    correlation_id: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call: `error` is set exactly where it failed.

    `full_bytes` and `full_sha256` describe the whole output as JSON bytes, where `output` is only its beginning.
    """

    output: Json = None
    error: str | None = None
    full_bytes: int | None = None
    full_sha256: str | None = None


class ToolPort(Protocol):
    """Makes calls."""

    async def call(self, request: ToolRequest) -> ToolResult:
        """Make the call and return what came of it: failures are results too, nothing is raised."""
        ...


class ModuleGateway(Protocol):
    """The platform's modules, as one door."""

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Let `module` do `action` for `request.site_id`, at most once for `request.call_id`.

        Raises:
            ToolError: refused or failed, in words for the model.
            UnavailableError: the module does not answer; it may have acted.
        """
        ...
