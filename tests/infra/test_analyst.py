"""An analyst's run, from its schedule to the report that people read: the loop in memory, the data in Postgres."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from rich.console import Console

from infra.context import CatalogueContext
from infra.data.reader import DataReader
from infra.models.scripted import PROVIDER, ScriptedModel
from infra.modules.doors import Doors
from infra.modules.router import ToolRouter
from infra.modules.sandbox import Sandbox
from infra.reports.rendering import print_report
from processors.runtime.process import Process
from processors.tools.port import ToolPort, ToolRequest, ToolResult
from projections.db import Pool
from projections.projector import Projector
from projections.queries.reports import get_report, list_reports
from schemas.agents import AgentConfig
from schemas.ids import agent_id_of
from schemas.message import Json
from schemas.reports import GENERATE_REPORT
from streams.memory_log import MemoryLog
from tests.infra.report_places import REGISTRY, gateway, give_a_past, opened_database
from tests.infra.test_reports import counted, rows_of
from tests.infra.test_sandbox import Published
from tests.processors.asks import activate, create, start
from tests.processors.fakes import Owner, history, new_log, tell, until
from tests.processors.samples import OTHER_SITE, SITE

EXAMPLES = Path(__file__).parents[2] / "examples"
ANALYST = agent_id_of(SITE, "analyst")
WEEK = ("2026-01-19", "2026-01-25")


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with opened_database(postgres_url) as (opened, _):
        yield opened


def analyst(**changes: Json) -> AgentConfig:
    given = {
        "slug": "analyst",
        "name": "BI Agent",
        "type": "analyst",
        "system_prompt": "You find insights in business data.",
        "triggers": ("schedule:weekly_monday_6am", "manual"),
        "llm_provider": PROVIDER,
        "llm_model": "analyst",
        "allowed_tools": ("data_*", "generate_report"),
    }
    return AgentConfig.model_validate(given | changes)


class Mute:
    """Tools whose report is made and never told of: their worker dies right after it."""

    def __init__(self, tools: ToolPort) -> None:
        self._tools = tools
        self.made: list[str] = []

    async def call(self, request: ToolRequest) -> ToolResult:
        result = await self._tools.call(request)
        if request.tool.name == GENERATE_REPORT:
            self.made.append(result.output["report_id"])
            await asyncio.Event().wait()
        return result


async def house(log: MemoryLog, pool: Pool, tools: ToolPort | None = None) -> Process:
    async def at_once(_: float) -> None:
        """Answer without the pause of the script."""

    data, sandbox = DataReader(pool), Sandbox(pool, Published())
    await data.open()
    doors = Doors({"data": data, "reports": gateway(pool)}, sandbox)
    return Process(
        log,
        ScriptedModel.from_yaml(EXAMPLES / "scripts", sleep=at_once),
        tools or ToolRouter({"module": doors, "internal": doors}),
        CatalogueContext(REGISTRY, ["crm", "email", "tasks"]),
        now_ms=log._clock,
    )


def ended(log: MemoryLog) -> bool:
    endings = ("execution.completed", "execution.failed")
    return any(line.startswith(endings) for line in history(log, ANALYST).lines)


async def run_once(log: MemoryLog, pool: Pool, config: AgentConfig) -> list[str]:
    async with Owner(await house(log, pool), log):
        await tell(log, create(config), activate(), agent=ANALYST)
        await tell(log, start("weekly/2026-01-26T06:00:00Z", type_="schedule"), agent=ANALYST)
        await until(lambda: ended(log))
    return history(log, ANALYST).lines


async def test_a_scheduled_run_of_an_analyst_leaves_a_report(pool: Pool) -> None:
    log = await new_log()
    await give_a_past(pool, SITE, days=21)
    await give_a_past(pool, OTHER_SITE, days=3)
    told = await run_once(log, pool, analyst())
    assert sorted(line for line in told if line.startswith("tool.completed")) == [
        "tool.completed call_1_1",
        "tool.completed call_1_2",
        "tool.completed call_2_1",
    ]
    assert told[-1] == "execution.completed"
    await Projector(log, pool).catch_up()
    (row,) = await list_reports(pool, SITE)
    assert (row.template, row.agent_slug, row.agent_id) == ("weekly_performance", "analyst", ANALYST)
    assert await list_reports(pool, OTHER_SITE) == ()
    report = (await get_report(pool, SITE, row.id)).report
    assert report.is_whole()
    for what, cells in rows_of(report.markdown, "What").items():
        if what.startswith(("New", "Emails", "Notes")):  # runs are in the projector's own tables, this one among them
            assert int(cells[0]) == await counted(pool, what, *WEEK, SITE), what
    result = await pool.fetchval("SELECT result FROM projections.ai_agent_executions WHERE site_id = $1 AND id = $2",
                                 SITE, row.execution_id)  # fmt: skip
    assert result == f"Made the report {report.title} ({row.id})."
    print_report(Console(file=(shown := io.StringIO()), width=100), report)
    assert "New contacts by day" in shown.getvalue()
    # The tables follow from the log: a report is there again after they were thrown away.
    body = await pool.fetchval("SELECT body FROM projections.ai_reports")
    await pool.execute("DROP SCHEMA projections CASCADE")
    await Projector(log, pool).catch_up()
    assert await pool.fetchval("SELECT body FROM projections.ai_reports") == body


async def test_an_agent_without_the_tool_makes_no_report(pool: Pool) -> None:
    log = await new_log()
    told = await run_once(log, pool, analyst(allowed_tools=("data_*",)))
    await Projector(log, pool).catch_up()
    assert await list_reports(pool, SITE) == ()
    assert not any(line == "tool.completed call_2_1" for line in told)


async def test_a_report_that_was_begun_before_a_crash_is_the_same_after_it(pool: Pool) -> None:
    log = await new_log()
    await give_a_past(pool, SITE, days=9)
    data = DataReader(pool)
    await data.open()
    tools = Mute(ToolRouter({"internal": Doors({"data": data}, gateway(pool))}))
    process = await house(log, pool, tools)
    async with Owner(process, log):
        await tell(log, create(analyst()), activate(), agent=ANALYST)
        await tell(log, start("weekly", type_="schedule"), agent=ANALYST)
        await until(lambda: tools.made)
    await pool.execute("DELETE FROM sandbox.tasks")
    stored = await pool.fetchval("SELECT result FROM reports.calls")
    async with Owner(await house(log, pool), log):
        await until(lambda: "execution.completed" in history(log, ANALYST).lines)
    await Projector(log, pool).catch_up()
    (row,) = await list_reports(pool, SITE)
    assert row.id == tools.made[0]
    assert (await get_report(pool, SITE, row.id)).report.encode().decode() == stored
