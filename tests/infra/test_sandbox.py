import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import asyncpg
import pytest
import pytest_asyncio

from infra.modules import outbox
from infra.modules.sandbox import Sandbox
from infra.modules.sandbox_seed import SEED_CONTACTS
from processors.tools.port import ToolError, ToolRequest
from processors.tools.registry import BUILTIN, Registry
from processors.tools.validation import validator_for
from projections.db import Pool
from schemas.errors import AppendError, UnavailableError
from schemas.ids import AgentId, CallId, ExecutionId, SiteId, random_id
from schemas.message import Json, JsonObject
from tests.databases import own_pool

REGISTRY = Registry(BUILTIN)
AGENT = AgentId("0f8fad5b-d9cb-469f-a165-70867728950e")


@dataclass
class Published:
    """A publisher that keeps what it is given, unless the log is down."""

    events: list[JsonObject] = field(default_factory=list)
    is_down: bool = False
    refuses: str | None = None  # a type of event

    async def publish(
        self,
        *,
        type: str,
        site_id: SiteId,
        source: str,
        data: Json,
        subject: str | None = None,
        id: str | None = None,
        time: datetime | None = None,
        extensions: Mapping[str, str] | None = None,
    ) -> None:
        await asyncio.sleep(0)
        if self.is_down or type == self.refuses:
            raise AppendError("the log is down")
        event = {"type": type, "site_id": site_id, "source": source, "data": data, "subject": subject, "id": id}
        self.events.append({**event, "time": time, "extensions": extensions})

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    """A database of this module's own."""
    async with own_pool(postgres_url, "sandbox", size=12) as opened:
        await Sandbox(opened, Published()).open()
        yield opened


@pytest_asyncio.fixture
async def published(pool: Pool) -> Published:
    """A publisher, and nothing left over from other tests."""
    await pool.execute("DELETE FROM sandbox.outbox")
    return Published()


@pytest.fixture
def sandbox(pool: Pool, published: Published) -> Sandbox:
    return Sandbox(pool, published)


@pytest.fixture
def site() -> SiteId:
    return SiteId(random_id())


def request(site: SiteId, tool: str, **arguments: Json) -> ToolRequest:
    definition = REGISTRY.get(tool)
    assert validator_for(definition)(arguments) is None
    return ToolRequest(
        call_id=CallId(random_id()),
        tool=definition,
        arguments=arguments,
        site_id=site,
        agent_id=AGENT,
        execution_id=ExecutionId(random_id()),
        correlation_id="first-cause",
        depth=1,
    )


async def send(sandbox: Sandbox, asked: ToolRequest) -> JsonObject:
    assert asked.tool.module is not None
    assert asked.tool.action is not None
    result: JsonObject = await sandbox.call(asked.tool.module, asked.tool.action, asked)
    return result


async def use(sandbox: Sandbox, site: SiteId, tool: str, **arguments: Json) -> JsonObject:
    return await send(sandbox, request(site, tool, **arguments))


# --- what the modules do --------------------------------------------------------------------------------------------


async def test_a_contact_is_created_found_changed_and_noted(sandbox: Sandbox, site: SiteId) -> None:
    created = await use(
        sandbox, site, "crm_create_contact", email="Maya@example.com", first_name="Maya", custom_fields={"a": 1}
    )
    assert await use(sandbox, site, "crm_get_contact", contact_id=created["id"].upper()) == created
    assert await use(sandbox, site, "crm_get_contact", email="maya@EXAMPLE.com") == created

    updates = {"company": "Lindqvist", "tags": ["x"], "custom_fields": {"b": 2}, "status": "customer"}
    changed = await use(sandbox, site, "crm_update_contact", contact_id=created["id"], updates=updates)
    assert changed == {**created, **updates, "custom_fields": {"a": 1, "b": 2}}

    note = await use(sandbox, site, "crm_add_note", contact_id=created["id"], content="called", type="call")
    assert note["contact_id"] == created["id"]
    assert note["type"] == "call"


async def test_a_task_and_emails_are_kept(sandbox: Sandbox, site: SiteId) -> None:
    task = await use(sandbox, site, "task_create", title="Call", due_date="2026-03-01T10:00:00+01:00")
    assert (task["due_date"], task["priority"], task["status"]) == ("2026-03-01T09:00:00+00:00", "medium", "open")
    message = {"to": ["a@example.com", "b@example.com"], "subject": "Hi", "body": "…"}
    draft = await use(sandbox, site, "email_draft", **message)
    sent = await use(sandbox, site, "email_send", **message)
    assert (draft["status"], sent["status"], sent["to"]) == ("draft", "sent", message["to"])


async def test_a_search_looks_at_names_email_company_and_tags(sandbox: Sandbox, site: SiteId) -> None:
    assert await sandbox.seed(site) == len(SEED_CONTACTS)

    async def found(query: str, **more: Json) -> set[str]:
        result = await use(sandbox, site, "crm_search_contacts", query=query, **more)
        assert result["count"] == len(result["contacts"])
        return {contact["first_name"] for contact in result["contacts"]}

    assert await found("MAYA OKA") == {"Maya"}
    assert await found("stonebridge.example") == {"Priya", "Anna"}
    assert await found("lindqvist logistics") == {"Maya", "Tomas"}
    assert await found("renewal") == {"Ines"}
    assert await found("", status="lead", tags=["referral"]) == {"Priya"}
    assert len(await found("", limit=2)) == 2
    assert await found("%") == await found("_") == await found("\\") == set()
    assert await found("' OR site_id IS NOT NULL --") == set()


async def test_a_result_holds_the_named_columns_only(sandbox: Sandbox, site: SiteId) -> None:
    await sandbox.seed(site)
    found = await use(sandbox, site, "crm_search_contacts", query="maya")
    assert not {"site_id", "created_by", "phone", "custom_fields"} & set(found["contacts"][0])


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("crm_get_contact", {"contact_id": "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8eff"}, "There is no contact"),
        ("crm_get_contact", {"email": "nobody@example.com"}, "There is no contact 'nobody@example.com'"),
        ("crm_add_note", {"contact_id": "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8eff", "content": "x"}, "There is no contact"),
        ("crm_create_contact", {"email": "MAYA.okafor@lindqvist.example.com"}, "already"),
    ],
)
async def test_a_refusal_is_in_words_and_changes_nothing(
    sandbox: Sandbox, site: SiteId, published: Published, tool: str, arguments: JsonObject, words: str
) -> None:
    await sandbox.seed(site)
    asked = request(site, tool, **arguments)
    for _ in range(2):
        with pytest.raises(ToolError, match=words):
            await send(sandbox, asked)
    assert published.events == []


async def test_arguments_that_no_schema_checked_do_no_harm(sandbox: Sandbox, site: SiteId) -> None:
    contact = await sandbox.create_contact(site, email="a@example.com")
    bad: list[tuple[str, JsonObject]] = [
        ("crm_get_contact", {"contact_id": "1 OR 1=1"}),
        ("crm_update_contact", {"contact_id": contact["id"], "updates": {"site_id": random_id()}}),
        ("crm_update_contact", {"contact_id": contact["id"], "updates": {"status": "boss"}}),
        ("crm_update_contact", {"contact_id": contact["id"], "updates": {"tags": "all"}}),
        ("task_create", {"title": "x", "due_date": "0001-01-01T00:00:00"}),
        ("task_create", {"title": "x", "due_date": "2026-13-01T00:00:00Z"}),
    ]
    for tool, arguments in bad:
        with pytest.raises(ToolError):
            await send(
                sandbox,
                replace(request(site, "crm_search_contacts", query=""), tool=REGISTRY.get(tool), arguments=arguments),
            )
    assert await use(sandbox, site, "crm_get_contact", contact_id=contact["id"]) == contact


async def test_nul_and_lone_surrogates_are_replaced(sandbox: Sandbox, site: SiteId, published: Published) -> None:
    contact = await use(
        sandbox, site, "crm_create_contact", email="n@example.com", first_name="a\0b", custom_fields={"k\0": "v\0"}
    )
    assert (contact["first_name"], contact["custom_fields"]) == ("a\ufffdb", {"k\ufffd": "v\ufffd"})
    assert (await use(sandbox, site, "crm_search_contacts", query="a\0b"))["count"] == 1
    unchecked = replace(request(site, "task_create", title="x"), arguments={"title": "\ud800\0"})
    assert (await send(sandbox, unchecked))["title"] == "\ufffd\ufffd"
    assert published.types == ["crm.contact.created", "task.created"]


# --- once -----------------------------------------------------------------------------------------------------------


async def test_the_same_key_gives_the_same_result_and_one_row(
    sandbox: Sandbox, site: SiteId, published: Published, pool: Pool
) -> None:
    asked = request(site, "email_send", to=["a@example.com"], subject="Hi", body="…")
    assert await send(sandbox, asked) == await send(sandbox, asked)
    assert await pool.fetchval("SELECT count(*) FROM sandbox.emails WHERE site_id = $1", site) == 1
    assert published.types == ["email.sent"]


async def test_the_same_key_at_the_same_time_gives_the_same_result_and_one_row(
    sandbox: Sandbox, site: SiteId, published: Published, pool: Pool
) -> None:
    asked = request(site, "task_create", title="once")
    other = Sandbox(pool, published)
    results = await asyncio.gather(*(send(door, asked) for door in (sandbox, other) * 8))
    assert all(result == results[0] for result in results)
    assert await pool.fetchval("SELECT count(*) FROM sandbox.tasks WHERE site_id = $1", site) == 1
    assert published.types == ["task.created"]


async def test_a_key_is_good_for_one_call_only(sandbox: Sandbox, site: SiteId) -> None:
    asked = request(site, "task_create", title="one")
    await send(sandbox, asked)
    with pytest.raises(ToolError, match="another call"):
        await send(sandbox, replace(asked, arguments={"title": "two"}))


async def test_one_email_is_one_contact_however_many_create_it(sandbox: Sandbox, site: SiteId) -> None:
    calls = [use(sandbox, site, "crm_create_contact", email="same@example.com") for _ in range(6)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, ToolError) for outcome in outcomes) == 5


# --- sites ----------------------------------------------------------------------------------------------------------


async def test_nothing_of_another_site_is_seen_or_changed(sandbox: Sandbox, site: SiteId) -> None:
    other = SiteId(random_id())
    theirs = await sandbox.create_contact(other, email="shared@example.com", first_name="Theirs")
    with pytest.raises(ToolError, match="There is no contact"):
        await use(sandbox, site, "crm_get_contact", contact_id=theirs["id"])
    with pytest.raises(ToolError, match="There is no contact"):
        await use(sandbox, site, "crm_get_contact", email="shared@example.com")
    with pytest.raises(ToolError, match="There is no contact"):
        await use(sandbox, site, "crm_update_contact", contact_id=theirs["id"], updates={"first_name": "Mine"})
    with pytest.raises(ToolError, match="There is no contact"):
        await use(sandbox, site, "crm_add_note", contact_id=theirs["id"], content="x")
    assert (await use(sandbox, site, "crm_search_contacts", query=""))["count"] == 0
    await use(sandbox, site, "crm_create_contact", email="shared@example.com")
    assert await use(sandbox, other, "crm_get_contact", email="shared@example.com") == theirs


async def test_a_key_of_one_site_means_nothing_in_another(sandbox: Sandbox, site: SiteId) -> None:
    asked = request(site, "task_create", title="mine")
    other = replace(asked, site_id=SiteId(random_id()))
    assert (await send(sandbox, asked))["id"] != (await send(sandbox, other))["id"]


# --- events ---------------------------------------------------------------------------------------------------------


async def test_an_event_says_what_an_agent_caused(sandbox: Sandbox, site: SiteId, published: Published) -> None:
    contact = await use(sandbox, site, "crm_create_contact", email="e@example.com", tags=["new"])
    (event,) = published.events
    assert (event["type"], event["source"], event["subject"]) == ("crm.contact.created", "/crm", contact["id"])
    assert event["site_id"] == site
    assert event["extensions"] == {"agentid": AGENT, "causationdepth": "2", "correlationid": "first-cause"}
    assert event["data"]["contact_id"] == contact["id"]
    assert event["data"]["tags"] == ["new"]
    assert event["time"].tzinfo is not None


async def test_every_change_has_its_event(sandbox: Sandbox, site: SiteId, published: Published) -> None:
    contact = await sandbox.create_contact(site, email="e@example.com")
    await use(sandbox, site, "crm_update_contact", contact_id=contact["id"], updates={"company": "C"})
    await use(sandbox, site, "crm_add_note", contact_id=contact["id"], content="x")
    task = await use(sandbox, site, "task_create", title="t")
    draft = await use(sandbox, site, "email_draft", to=["a@example.com"], subject="s", body="b")
    await use(sandbox, site, "email_send", to=["a@example.com"], subject="s", body="b")
    await use(sandbox, site, "crm_search_contacts", query="")
    assert published.types == [
        "crm.contact.created",
        "crm.contact.updated",
        "crm.note.added",
        "task.created",
        "email.drafted",
        "email.sent",
    ]
    assert [event["subject"] for event in published.events[:5]] == [contact["id"]] * 3 + [task["id"], draft["id"]]
    assert published.events[0]["extensions"] == {}
    assert published.events[1]["data"]["changed"] == ["company"]


async def test_what_an_outage_left_over_is_told_though_nobody_calls_again(
    pool: Pool, site: SiteId, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LOOK_S", 0.01)
    sandbox = Sandbox(pool, published)
    published.is_down = True
    await use(sandbox, site, "task_create", title="kept")
    assert published.events == []
    running = asyncio.create_task(sandbox.run())
    published.is_down = False
    async with asyncio.timeout(5):
        while not published.events:  # noqa: ASYNC110 - another task publishes
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert published.types == ["task.created"]


async def test_opening_a_sandbox_that_is_there_waits_for_nobody(pool: Pool, published: Published) -> None:
    async with pool.acquire() as db, db.transaction():  # of a process that hangs
        await db.execute("DELETE FROM sandbox.outbox")
        async with asyncio.timeout(5):
            await Sandbox(pool, published).open()


async def test_seeding_adds_what_is_missing_and_tells_nobody(
    sandbox: Sandbox, site: SiteId, published: Published
) -> None:
    assert await sandbox.seed(site) == len(SEED_CONTACTS)
    assert await sandbox.seed(site) == 0
    assert await sandbox.publish_left() == 0
    assert published.events == []


async def test_a_change_stands_while_the_log_is_down_and_is_told_at_the_next_start(
    pool: Pool, site: SiteId, published: Published
) -> None:
    published.is_down = True
    crashed = Sandbox(pool, published)
    task = await use(crashed, site, "task_create", title="kept")
    waiting = await pool.fetchval("SELECT event_id FROM sandbox.outbox WHERE published_at IS NULL")
    assert published.events == []

    published.is_down = False
    await Sandbox(pool, published).open()
    await Sandbox(pool, published).open()
    assert [(event["id"], event["subject"]) for event in published.events] == [(str(waiting), task["id"])]


async def test_a_log_that_hangs_keeps_no_caller_waiting(
    pool: Pool, site: SiteId, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Published):
        async def publish(self, **_: Json) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(outbox, "WAIT_S", 0.01)
    task = await use(Sandbox(pool, Hanging()), site, "task_create", title="kept")
    assert await Sandbox(pool, published).publish_left() == 1
    assert published.events[0]["subject"] == task["id"]


async def test_an_event_that_was_out_before_the_crash_is_told_again_under_its_id(
    pool: Pool, site: SiteId, published: Published
) -> None:
    await use(Sandbox(pool, published), site, "task_create", title="kept")
    await pool.execute("UPDATE sandbox.outbox SET published_at = NULL")  # the mark that a crash would have lost
    await Sandbox(pool, published).open()
    first, second = published.events
    assert first == second


async def test_what_a_publisher_takes_stays_published_when_another_event_fails(
    pool: Pool, site: SiteId, published: Published
) -> None:
    published.refuses = "task.created"
    sandbox = Sandbox(pool, published)
    await use(sandbox, site, "task_create", title="t")
    await sandbox.create_contact(site, email="c@example.com")
    with pytest.raises(AppendError):
        await sandbox.publish_left()
    published.refuses = None
    assert await sandbox.publish_left() == 1
    assert published.types == ["crm.contact.created", "task.created"]


async def test_many_at_once_are_published_once_each(pool: Pool, site: SiteId, published: Published) -> None:
    doors = [Sandbox(pool, published) for _ in range(3)]
    await asyncio.gather(*(use(doors[n % 3], site, "task_create", title=f"{n}") for n in range(30)))
    assert sorted(event["data"]["title"] for event in published.events) == sorted(str(n) for n in range(30))


# --- failures -------------------------------------------------------------------------------------------------------


async def test_a_call_that_is_cut_off_leaves_nothing(
    sandbox: Sandbox, site: SiteId, published: Published, pool: Pool
) -> None:
    asked = request(site, "task_create", title="cut")
    async with pool.acquire() as db, db.transaction():
        await db.execute("LOCK TABLE sandbox.tasks IN EXCLUSIVE MODE")  # the call gets as far as its INSERT
        task = asyncio.create_task(send(sandbox, asked))
        while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await send(sandbox, asked))["title"] == "cut"
    assert published.types == ["task.created"]


async def test_a_database_that_is_gone_is_unavailable(postgres_url: str, site: SiteId) -> None:
    closed = await asyncpg.create_pool(postgres_url, min_size=0, max_size=1)
    await closed.close()
    with pytest.raises(UnavailableError, match="Postgres does not answer"):
        await use(Sandbox(closed, Published()), site, "crm_search_contacts", query="")


async def test_an_unknown_action_is_refused(sandbox: Sandbox, site: SiteId) -> None:
    with pytest.raises(ToolError, match="no deleteEverything"):
        await sandbox.call("crm", "deleteEverything", request(site, "task_create", title="x"))


async def test_two_processes_can_open_the_sandbox_at_once(pool: Pool, published: Published) -> None:
    await pool.execute("DROP SCHEMA sandbox CASCADE")
    await asyncio.gather(*(Sandbox(pool, published).open() for _ in range(4)))


# --- the calendar ---------------------------------------------------------------------------------------------------


async def test_an_event_is_created_once_and_takes_its_time(
    sandbox: Sandbox, published: Published, site: SiteId
) -> None:
    times = {"start_time": "2026-03-01T09:00:00Z", "end_time": "2026-03-01T11:00:00+01:00"}
    asked = request(site, "calendar_create_event", title="Fitting", attendees=["maya"], **times)
    created = await send(sandbox, asked)
    assert await send(sandbox, asked) == created
    assert (created["title"], created["attendees"]) == ("Fitting", ["maya"])
    assert published.types == ["booking.event.created"]
    day = {"start_time": "2026-03-01T00:00:00Z", "end_time": "2026-03-02T00:00:00Z"}
    found = await use(sandbox, site, "calendar_check_availability", **day)
    assert [busy["id"] for busy in found["busy"]] == [created["id"]]
    assert (found["available"], found["more"]) == (False, False)
    assert not (await use(sandbox, site, "calendar_check_availability", user_id="maya", **day))["available"]
    assert (await use(sandbox, site, "calendar_check_availability", user_id="noor", **day))["available"]
    after = {"start_time": "2026-03-01T10:00:00Z", "end_time": "2026-03-01T11:00:00Z"}
    assert (await use(sandbox, site, "calendar_check_availability", **after))["available"]  # it ends where this begins
    assert (await use(sandbox, SiteId(random_id()), "calendar_check_availability", **day))["available"]


async def test_times_that_make_no_span_are_refused(sandbox: Sandbox, site: SiteId) -> None:
    for start, end, said in (
        ("2026-03-01T09:00:00Z", "2026-03-01T09:00:00Z", "after the beginning"),
        ("2026-03-01T09:00:00Z", "2027-03-01T09:00:00Z", "longer than 92 days"),
    ):
        with pytest.raises(ToolError, match=said):
            await use(sandbox, site, "calendar_check_availability", start_time=start, end_time=end)
