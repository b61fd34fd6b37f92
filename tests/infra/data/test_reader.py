"""The data tools over a real Postgres: a role and a transaction that can only read, one site, bounded."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio

from infra.data.entities import ENTITIES, Entity
from infra.data.reader import ROLE, ROWS_BYTES, DataReader
from infra.modules.sandbox import Sandbox
from processors.tools.builtin.data import DATA_AGGREGATE, DATA_QUERY
from processors.tools.port import ToolError, ToolRequest
from processors.tools.validation import validator_for
from projections.migrate import migrate
from projections.rebuild import rebuild
from schemas.errors import UnavailableError
from schemas.ids import AgentId, CallId, ExecutionId, SiteId, random_id
from schemas.message import Json, JsonObject
from tests.databases import own_pool
from tests.infra.test_sandbox import Published
from tests.naughty import naughty_strings
from tests.processors.fakes import until

Pool = asyncpg.Pool
RUN = """
INSERT INTO projections.ai_agent_executions (site_id, id, agent_id, outcome, pending_approvals, current_step,
  llm_calls, tool_calls, tokens_input, tokens_output, tokens_cached, cost_micros, started_at, updated_at, last_sequence,
  correlation_id)
VALUES ($1, $2, $3, $4, 0, 1, 1, 0, 10, 5, 0, $5, $6, $6, 1, 'c')
"""


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    """A database of this module's own, with all tables."""
    async with own_pool(postgres_url, "data") as opened:
        await migrate(opened)
        await Sandbox(opened, Published()).open()
        yield opened


@pytest_asyncio.fixture
async def reader(pool: Pool) -> DataReader:
    opened = DataReader(pool)
    await opened.open()
    return opened


@pytest.fixture
def site() -> SiteId:
    return SiteId(random_id())


@pytest.fixture
def sandbox(pool: Pool) -> Sandbox:
    return Sandbox(pool, Published())


async def ask(reader: DataReader, site: SiteId, **arguments: Json) -> JsonObject:
    tool = DATA_AGGREGATE if "metric" in arguments else DATA_QUERY
    assert validator_for(tool)(arguments) is None
    request = ToolRequest(
        CallId("c"), tool, arguments, site, AgentId("agent"), ExecutionId("run"), correlation_id="why"
    )
    assert tool.action is not None
    result: JsonObject = await reader.call("data", tool.action, request)
    return result


async def emails(reader: DataReader, site: SiteId, **filters: Json) -> list[str]:
    found = await ask(reader, site, entity_type="contacts", filters=filters, order_by="email", fields=["email"])
    return [row["email"].split("@")[0] for row in found["rows"]]


async def test_records_are_found_by_every_operator(reader: DataReader, sandbox: Sandbox, site: SiteId) -> None:
    for name, company, tags in (("ada", "Acme", ["a", "b"]), ("bob", None, []), ("cyd", "Beta 100%", ["b"])):
        await sandbox.create_contact(site, email=f"{name}@example.com", company=company, tags=tags)
    assert await emails(reader, site) == ["ada", "bob", "cyd"]
    assert await emails(reader, site, email="bob@example.com") == ["bob"]
    assert await emails(reader, site, company={"ne": "Acme"}) == ["bob", "cyd"]
    assert await emails(reader, site, company={"contains": "0%"}) == ["cyd"]
    assert await emails(reader, site, company={"contains": "_"}) == []
    assert await emails(reader, site, company={"starts_with": "aC"}) == ["ada"]
    assert await emails(reader, site, company={"in": ["Acme", "Other"]}) == ["ada"]
    assert await emails(reader, site, company={"is_null": True}) == await emails(reader, site, company=None) == ["bob"]
    assert await emails(reader, site, company={"ne": None}) == ["ada", "cyd"]
    assert await emails(reader, site, tags={"contains": "b"}) == ["ada", "cyd"]
    assert await emails(reader, site, created_at={"gte": "2020-01-01", "lt": "2020-02-01T00:00:00Z"}) == []
    assert await emails(reader, site, email={"gt": "b", "lt": "c"}) == ["bob"]


async def test_nothing_of_another_site_is_found(reader: DataReader, sandbox: Sandbox, site: SiteId) -> None:
    other = SiteId(random_id())
    await sandbox.create_contact(other, email="theirs@example.com")
    for entity in ENTITIES:
        assert (await ask(reader, site, entity_type=entity))["rows"] == []
        assert (await ask(reader, site, entity_type=entity, metric="count"))["value"] == 0
    assert len((await ask(reader, other, entity_type="contacts"))["rows"]) == 1


async def test_every_column_of_the_catalogue_can_be_read_sorted_filtered_and_grouped(
    reader: DataReader, site: SiteId
) -> None:
    for name, entity in ENTITIES.items():
        for column, kind in entity.columns.items():
            await ask(reader, site, entity_type=name, fields=[column], filters={column: {"is_null": False}})
            if kind != "list":
                await ask(reader, site, entity_type=name, order_by=f"-{column}")
                await ask(reader, site, entity_type=name, metric="count", group_by=column)
            if kind in ("time", "date"):
                await ask(reader, site, entity_type=name, metric="count", group_by=f"week({column})")


async def test_runs_are_counted_added_up_and_grouped(reader: DataReader, pool: Pool, site: SiteId) -> None:
    agent = random_id()
    for outcome, cost, month in (("completed", 5, 1), ("completed", 7, 2), ("failed", 1, 2)):
        await pool.execute(RUN, site, random_id(), agent, outcome, cost, datetime(2026, month, 3, tzinfo=UTC))

    async def figure(**asked: Json) -> Json:
        found = await ask(reader, site, entity_type="executions", **asked)
        return found["value"] if "value" in found else {group["group"]: group["value"] for group in found["groups"]}

    assert await figure(metric="count") == 3
    assert await figure(metric="sum(cost_micros)") == 13
    assert await figure(metric="avg(cost_micros)", filters={"status": "completed"}) == 6
    assert await figure(metric="count_distinct(agent_id)") == 1
    assert await figure(metric="max(started_at)") == "2026-02-03T00:00:00+00:00"
    assert await figure(metric="sum(cost_micros)", filters={"status": "nothing"}) is None
    assert await figure(metric="count", group_by="status") == {"completed": 2, "failed": 1}
    assert await figure(metric="sum(cost_micros)", group_by="month(started_at)") == {"2026-01-01": 5, "2026-02-01": 8}
    assert await figure(metric="count", date_range={"from": "2026-02-01", "to": "2026-03-01"}) == 2
    assert await figure(metric="count", date_range={"to": "2026-02-03T00:00:00Z"}) == 1


async def test_rows_are_bounded_and_say_so(reader: DataReader, pool: Pool, site: SiteId) -> None:
    await pool.execute(
        "INSERT INTO sandbox.tasks (site_id, id, title, description, priority, created_by) "
        "SELECT $1, gen_random_uuid(), 'Call', repeat('x', 5000), 'low', 'test' FROM generate_series(1, 150)",
        site,
    )
    found = await ask(reader, site, entity_type="tasks", limit=2)
    assert (found["count"], found["more"]) == (2, True)
    found = await ask(reader, site, entity_type="tasks", limit=200)
    assert found["more"]
    assert ROWS_BYTES // 1_400 < found["count"] < 150
    assert {len(row["description"]) for row in found["rows"]} == {1_000}
    found = await ask(reader, site, entity_type="tasks", limit=200, fields=["title"])
    assert (found["count"], found["more"]) == (150, False)


@pytest.mark.usefixtures("reader")
async def test_the_role_can_read_the_catalogue_and_do_nothing_else(pool: Pool) -> None:
    for sql in (
        "INSERT INTO sandbox.notes DEFAULT VALUES",
        "DELETE FROM sandbox.contacts",
        "SELECT custom_fields FROM sandbox.contacts",
        "SELECT body FROM sandbox.emails",
        "SELECT * FROM sandbox.applied_calls",
        "SELECT input FROM projections.ai_agent_tool_calls",
        "SELECT * FROM projections.ai_agent_catalogues",
        "SELECT pg_read_file('/etc/passwd')",
        "CREATE TABLE sandbox.x (a int)",
    ):
        async with pool.acquire() as db:
            transaction = db.transaction()
            await transaction.start()
            await db.execute(f"SET LOCAL ROLE {ROLE}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute(sql)
            await transaction.rollback()


async def test_questions_are_asked_by_that_role_and_the_connection_goes_back_as_it_came(
    pool: Pool, reader: DataReader
) -> None:
    before = await pool.fetchval("SELECT current_user")
    (row,) = await reader._read("SELECT current_user::text AS who, current_setting('statement_timeout') AS most", [])
    assert (row["who"], row["most"]) == (ROLE, "5s")
    for _ in range(4):
        assert await pool.fetchval("SELECT current_user") == before


async def test_the_transaction_can_only_read_also_without_a_role(
    pool: Pool, site: SiteId, caplog: pytest.LogCaptureFixture
) -> None:
    alone = DataReader(pool)  # not opened: as where no role could be made
    assert (await ask(alone, site, entity_type="contacts"))["rows"] == []
    with pytest.raises(UnavailableError, match="read-only transaction"):
        await alone._read("WITH x AS (DELETE FROM sandbox.notes RETURNING 1) SELECT * FROM x", [])


async def test_a_question_that_takes_too_long_is_given_up(pool: Pool) -> None:
    quick = DataReader(pool, statement_s=0.05)
    await quick.open()
    with pytest.raises(ToolError, match=r"took longer than 0\.05 s: ask for less"):
        await quick._read("SELECT pg_sleep(5)", [])


async def test_tables_that_were_made_anew_are_read_again(pool: Pool, reader: DataReader, site: SiteId) -> None:
    assert (await ask(reader, site, entity_type="executions"))["rows"] == []
    await rebuild(pool)
    assert (await ask(reader, site, entity_type="executions"))["rows"] == []


async def test_a_part_that_is_not_installed_is_told(pool: Pool, site: SiteId) -> None:
    nowhere = DataReader(pool, {"deals": Entity("nowhere.deals", {"id": "id"}, time="id")})
    await nowhere.open()
    with pytest.raises(ToolError, match="not installed"):
        await ask(nowhere, site, entity_type="deals")


async def test_a_column_of_another_release_is_told(pool: Pool, site: SiteId) -> None:
    older = DataReader(pool, {"notes": Entity("sandbox.notes", {"colour": "text"}, time="colour", key="colour")})
    await older.open()
    with pytest.raises(ToolError, match="not installed"):
        await ask(older, site, entity_type="notes")


async def test_questions_leave_connections_to_others(pool: Pool) -> None:
    slow = DataReader(pool, statement_s=0.5)
    await slow.open()
    asking = [asyncio.create_task(slow._read("SELECT pg_sleep(5)", [])) for _ in range(8)]
    await until(lambda: slow._asking.locked())
    async with asyncio.timeout(0.4):
        assert await pool.fetchval("SELECT 1") == 1
    assert {type(outcome) for outcome in await asyncio.gather(*asking, return_exceptions=True)} == {ToolError}


async def test_a_database_that_is_gone_is_unavailable(postgres_url: str, site: SiteId) -> None:
    gone = await asyncpg.create_pool(postgres_url, min_size=1, max_size=1)
    await gone.close()
    with pytest.raises(UnavailableError):
        await ask(DataReader(gone), site, entity_type="contacts")
    with pytest.raises(UnavailableError):
        await DataReader(gone).open()


async def test_every_naughty_string_is_found_by_itself(
    reader: DataReader, sandbox: Sandbox, pool: Pool, site: SiteId
) -> None:
    strings = naughty_strings()
    await pool.executemany(
        "INSERT INTO sandbox.tasks (site_id, id, title, priority, created_by) VALUES ($1, $2, $3, 'low', 'test')",
        [(site, random_id(), text) for text in strings],
    )
    for text in strings:
        found = await ask(reader, site, entity_type="tasks", filters={"title": text}, fields=["title"])
        assert {row["title"] for row in found["rows"]} == {text}
        found = await ask(reader, site, entity_type="tasks", metric="count", filters={"title": {"contains": text}})
        assert found["value"] >= 1
    assert (await ask(reader, site, entity_type="tasks", metric="count"))["value"] == len(strings)


@pytest.mark.parametrize(
    "value", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "0001-01-01", "9999-12-31"]
)
async def test_times_at_the_edge_are_answered_or_refused_in_words(reader: DataReader, site: SiteId, value: str) -> None:
    with contextlib.suppress(ToolError):
        await ask(reader, site, entity_type="contacts", filters={"created_at": {"gt": value}})
