"""The tools of a real worker: modules over HTTP, data, the web, notifications."""

import asyncio

import orjson

from schemas.envelope import EventEnvelope
from schemas.events import ExecutionCompleted, ToolCompleted, ToolFailed
from schemas.message import Json, JsonObject
from streams.client import ModuleEventPublisher
from streams.cloudevents import from_record
from streams.topics import MODULE_EVENTS
from tests.acceptance.system import System, config, new_site, stop, until
from tests.infra.web.wires import answer, serving

TOOLS = ("crm_*", "data_*", "web_*", "notify_*")


async def test_a_run_uses_the_tools_that_look_around_and_tell_people(system: System) -> None:
    site_id = new_site()
    applied: dict[str, JsonObject] = {}
    asked: list[bytes] = []

    async def crm(raw: bytes, writer: asyncio.StreamWriter) -> None:
        """Apply each call once, and lose the first answer."""
        head, _, body = raw.partition(b"\r\n\r\n")
        asked.append(head)
        call = orjson.loads(body)
        applied.setdefault(call["call_id"], {"id": "c1", **call["arguments"], "site": call["site_id"]})
        writer.write(answer("", "500 Broken") if len(asked) == 1 else answer(orjson.dumps(applied[call["call_id"]])))

    async with serving(crm) as port:
        modules = {"crm": {"url": f"http://127.0.0.1:{port}/crm", "secret": "only-the-two-of-us-know-this"}}
        worker = system.start_worker(DRAMAC_MODULES=orjson.dumps(modules).decode())
        try:
            agent = config("tools", "event:lead.*", model="tools", allowed_tools=TOOLS, max_tool_calls_per_step=6)
            agent_id = await system.agent(site_id, agent)
            async with ModuleEventPublisher(system.log) as publisher:
                await publisher.publish(
                    type="lead.came", site_id=site_id, source="/leads", data={"email": "maya@example.com"}
                )

            async def completed() -> bool:
                return any(isinstance(e.event, ExecutionCompleted) for e in await system.history(agent_id))

            await until(completed, "the run completed")
        finally:
            await stop(worker)

    history = await system.history(agent_id)
    outputs = {e.event.tool: e.event.output for e in history if isinstance(e.event, ToolCompleted)}
    errors = {e.event.tool: e.event.error for e in history if isinstance(e.event, ToolFailed)}
    assert outputs["crm_create_contact"] == {"id": "c1", "email": "maya@example.com", "site": site_id}
    assert (len(asked), len(applied)) == (2, 1)
    assert outputs["data_query"] == {"rows": [{"slug": "tools", "is_active": True}], "count": 1, "more": False}
    assert outputs["data_aggregate"]["value"] in (0, 1)  # the tables may not show this very run yet
    assert errors == {
        "web_scrape": "The host '169.254.169.254' can't be reached: only public websites can.",
        "web_search": "Searching the web is not set up on this system.",
    }
    assert await notified(system, history) == ["maya@example.com is new."]
    for log in system.home.glob("worker-*.log"):
        assert b"only-the-two-of-us-know-this" not in log.read_bytes()


async def notified(system: System, history: list[EventEnvelope]) -> list[Json]:
    """Return the messages that were asked for by the calls of a run."""
    calls = {e.event.call_id: e.event for e in history if isinstance(e.event, ToolCompleted)}
    records = [r for r in await system.records(MODULE_EVENTS) if r.header("ce_type") == b"notification.requested"]
    events = [from_record(record, now=0) for record in records]
    asked = {event.id: event for event in events if event.id in calls}
    messages: list[Json] = [event.data["message"] for event in asked.values() if isinstance(event.data, dict)]
    return messages
