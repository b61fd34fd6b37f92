"""Notifications and workflows: asked of the platform by a module event, once for each call."""

from datetime import UTC, datetime

from infra.modules.outbox import EventPublisher
from processors.tools.port import ToolError, ToolRequest
from schemas.errors import AppendError, NotFoundError, RecordTooLargeError, UnavailableError
from schemas.ids import UUID_PATTERN
from schemas.message import Json, JsonObject

NOTIFICATION = "notification.requested"
WORKFLOW = "automation.workflow.requested"


class EventGateway:
    """A `ModuleGateway` that asks by publishing a module event.

    The event's id is the call's key, and its time that of the call: whoever repeats the call publishes the same event
    again, which its consumers drop.
    """

    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Publish the event that asks for it.

        Raises:
            ToolError: it is not known how, or the event is too large; nothing was asked.
            UnavailableError: the log did not take it; it may have been asked all the same.
        """
        key, given = request.call_id, request.arguments
        match module, action:
            case "notifications", "notifyUser":
                channel = given.get("channel", "in_app")
                told = {"user_id": given.get("user_id"), "message": given["message"], "channel": channel}
                await self._publish(request, NOTIFICATION, "/ai/notifications", {"notification_id": key, **told})
                return {"notification_id": key, "status": "requested", "channel": channel}
            case "automation", "trigger":
                workflow = given["workflow_id"]
                asked = {"workflow_run_id": key, "workflow_id": workflow}
                data = {**asked, "input": given.get("input_data", {})}
                await self._publish(request, WORKFLOW, "/ai/workflows", data, workflow)
                return {**asked, "status": "requested"}
            case _:
                raise ToolError(f"{request.tool.name} can't be called on this system: {module} has no {action}.")

    async def _publish(
        self, request: ToolRequest, type: str, source: str, data: JsonObject, subject: str | None = None
    ) -> None:
        try:
            await self._publisher.publish(
                type=type,
                site_id=request.site_id,
                source=source,
                subject=subject or request.call_id,
                data={**data, "agent_id": request.agent_id, "execution_id": request.execution_id},
                id=request.call_id,
                time=time_of(request.call_id),
                extensions={
                    "agentid": request.agent_id,
                    "causationdepth": str(request.depth + 1),
                    "correlationid": request.correlation_id,
                },
            )
        except RecordTooLargeError as error:
            raise ToolError("What is to be passed on is too large: say less.") from error
        except ValueError as error:
            raise ToolError("What is to be passed on can't be written: leave out unusual characters.") from error
        except (AppendError, NotFoundError, OSError) as error:
            raise UnavailableError(f"the log did not take {type}: {error}") from error


def time_of(call_id: str) -> datetime:
    """Return when the call was asked for, which stands in its id (UUIDv8): the same on every repeat.

    Raises:
        ValueError: it is no such id.
    """
    if UUID_PATTERN.fullmatch(call_id) is None:
        raise ValueError(f"{call_id!r} is no call's id")
    return datetime.fromtimestamp(int(call_id.replace("-", "")[:12], 16) / 1000, UTC)
