"""Notifications and workflows: one event for each call, however often the call is repeated."""

from dataclasses import dataclass, field

import pytest

from infra.modules.doors import Doors
from infra.modules.router import ToolRouter
from infra.modules.telling import EventGateway, time_of
from processors.tools.builtin.communication import DRAFT_EMAIL
from processors.tools.builtin.system import NOTIFY_USER, TRIGGER_WORKFLOW
from processors.tools.call import call_tool
from processors.tools.port import ToolError, ToolRequest
from schemas.catalogue import ToolDefinition
from schemas.errors import AppendError, RecordTooLargeError, UnavailableError
from schemas.ids import AgentId, CallId, ExecutionId, SiteId, call_id_of
from schemas.message import Json, JsonObject
from streams.client import ModuleEventPublisher
from streams.cloudevents import from_record
from streams.memory_log import MemoryLog
from streams.topics import MODULE_EVENTS
from tests.infra.test_sandbox import Published
from tests.naughty import naughty_strings
from tests.processors.fakes import new_log

AT_MS = 1_790_000_000_123
SITE = SiteId("5d9c3f0a-6a0e-4f43-9c0e-2b1d6a7f1c11")
AGENT = AgentId("0f8fad5b-d9cb-469f-a165-70867728950e")


def request(tool: ToolDefinition, position: int = 0, **arguments: Json) -> ToolRequest:
    key = call_id_of(AT_MS, ExecutionId("run"), 1, position)
    return ToolRequest(key, tool, arguments, SITE, AGENT, ExecutionId("run"), correlation_id="why", depth=1)


async def ask(published: Published, asked: ToolRequest) -> Json:
    assert asked.tool.module is not None
    assert asked.tool.action is not None
    return await EventGateway(published).call(asked.tool.module, asked.tool.action, asked)


async def test_a_notification_is_asked_for_by_an_event() -> None:
    published, asked = Published(), request(NOTIFY_USER, message="Look.", user_id="u1", channel="sms")
    key = asked.call_id
    assert await ask(published, asked) == {"notification_id": key, "status": "requested", "channel": "sms"}
    (event,) = published.events
    assert (event["type"], event["source"], event["id"]) == ("notification.requested", "/ai/notifications", key)
    assert event["data"] == {
        **{"notification_id": key, "user_id": "u1", "message": "Look.", "channel": "sms"},
        **{"agent_id": AGENT, "execution_id": "run"},
    }
    assert event["extensions"] == {"agentid": AGENT, "causationdepth": "2", "correlationid": "why"}


async def test_a_workflow_is_asked_for_by_an_event() -> None:
    published, asked = Published(), request(TRIGGER_WORKFLOW, workflow_id="welcome", input_data={"a": [1]})
    result = await ask(published, asked)
    assert result == {"workflow_run_id": asked.call_id, "workflow_id": "welcome", "status": "requested"}
    (event,) = published.events
    assert (event["type"], event["subject"]) == ("automation.workflow.requested", "welcome")
    assert event["data"]["input"] == {"a": [1]}


@pytest.mark.parametrize(
    "asked",
    [request(NOTIFY_USER, message="Look."), request(TRIGGER_WORKFLOW, workflow_id="w")],
    ids=["notify", "start"],
)
async def test_a_repeated_call_publishes_the_same_event(asked: ToolRequest) -> None:
    published = Published()
    assert await ask(published, asked) == await ask(published, asked)
    first, second = published.events
    assert first == second
    assert first["time"].timestamp() * 1000 == AT_MS


async def test_two_calls_of_one_step_are_two_events() -> None:
    published = Published()
    for position in (0, 1):
        await ask(published, request(NOTIFY_USER, position, message="Look."))
    assert len({event["id"] for event in published.events}) == 2


async def test_a_log_that_is_down_is_asked_again_and_told() -> None:
    published = Published(is_down=True)
    with pytest.raises(UnavailableError):
        await ask(published, request(NOTIFY_USER, message="Look."))

    @dataclass
    class Flaky(Published):
        left: list[Exception] = field(default_factory=lambda: [AppendError("no answer")])

        async def publish(self, **named: Json) -> None:
            await super().publish(**named)
            if self.left:
                raise self.left.pop()

    flaky = Flaky()

    async def no_wait(_: float) -> None:
        return

    asked = request(NOTIFY_USER, message="Look.")
    result = await call_tool(lambda again: ask(flaky, again), asked, sleep=no_wait)
    assert result.error is None
    assert [event["id"] for event in flaky.events] == [asked.call_id] * 2


@pytest.mark.parametrize(
    ("error", "words"), [(RecordTooLargeError("x"), "too large"), (ValueError("x"), "can't be written")]
)
async def test_what_can_not_be_published_is_refused_in_words(error: Exception, words: str) -> None:
    class Refusing(Published):
        async def publish(self, **named: Json) -> None:
            raise error

    with pytest.raises(ToolError, match=words):
        await ask(Refusing(), request(TRIGGER_WORKFLOW, workflow_id="w"))


async def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ToolError, match="notifications has no sing"):
        await EventGateway(Published()).call("notifications", "sing", request(NOTIFY_USER))


def test_a_calls_time_stands_in_its_id() -> None:
    assert time_of(call_id_of(AT_MS, ExecutionId("run"), 3, 1)).timestamp() * 1000 == AT_MS
    with pytest.raises(ValueError, match="no call's id"):
        time_of(CallId("call-1"))


async def test_every_naughty_message_is_in_the_log_as_it_was() -> None:
    log: MemoryLog = await new_log()
    strings = naughty_strings()
    async with ModuleEventPublisher(log) as publisher:
        router = ToolRouter({"internal": Doors({"notifications": EventGateway(publisher)})})
        for position, text in enumerate(strings):
            assert (await router.call(request(NOTIFY_USER, position, message=text))).error is None
    events: list[Json] = [from_record(record, now=AT_MS).data for record in log.records(MODULE_EVENTS, 0)]
    assert [data["message"] for data in events] == strings


# --- doors ----------------------------------------------------------------------------------------------------------


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    async def call(self, module: str, action: str, asked: ToolRequest) -> JsonObject:
        return {"by": self.name, "module": module}


async def test_a_module_is_served_by_its_own_door_and_the_rest_by_the_other() -> None:
    doors = Doors({"data": Named("ours")}, Named("sandbox"))
    assert (await doors.call("data", "x", request(NOTIFY_USER)))["by"] == "ours"
    assert (await doors.call("crm", "x", request(NOTIFY_USER)))["by"] == "sandbox"


async def test_a_module_that_nobody_serves_is_a_result() -> None:
    result = await ToolRouter({"internal": Doors({})}).call(request(DRAFT_EMAIL))
    assert result.error == "email_draft can't be called on this system: nothing serves the module email."
