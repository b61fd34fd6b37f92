"""A database with the sandbox, the read models and the store of reports, and a site with a past."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from infra.modules.sandbox import SCHEMA
from infra.reports.gateway import ReportGateway
from infra.reports.library import load_templates
from processors.tools.builtin.reports import report_tool
from processors.tools.port import ToolRequest
from processors.tools.registry import BUILTIN, Registry
from processors.tools.validation import validator_for
from projections.db import Pool
from projections.migrate import migrate
from schemas.ids import AgentId, CallId, ExecutionId, SiteId, random_id
from schemas.message import Json, JsonObject
from tests.databases import own_pool

TEMPLATES = load_templates()
REGISTRY = Registry((*BUILTIN, report_tool(TEMPLATES)))
AGENT = AgentId("0f8fad5b-d9cb-469f-a165-70867728950e")
NOW = datetime(2026, 1, 26, 6, 0, tzinfo=UTC)  # a Monday
NARRATIVE: dict[str, JsonObject] = {
    name: {
        field: "It went well." if rule.kind == "text" else ["One.", "Two."] for field, rule in made.narrative.items()
    }
    for name, made in TEMPLATES.items()
}

CONTACT = """
INSERT INTO sandbox.contacts (site_id, id, email, company, status, created_by, created_at)
VALUES ($1, $2, $3, $4, $5, 'test', $6)
"""
NOTE = """
INSERT INTO sandbox.notes (site_id, id, contact_id, type, content, created_by, created_at)
VALUES ($1, $2, $3, 'note', 'x', 'test', $4)
"""
TASK = """
INSERT INTO sandbox.tasks (site_id, id, title, priority, created_by, created_at) VALUES ($1, $2, 't', 'low', 'u', $3)
"""
EMAIL = """
INSERT INTO sandbox.emails (site_id, id, status, recipients, subject, body, created_by, created_at)
VALUES ($1, $2, $3, '{a@example.com}', 's', 'b', 'u', $4)
"""
RUN = """
INSERT INTO projections.ai_agent_executions (
  site_id, id, agent_id, outcome, pending_approvals, current_step, llm_calls, tool_calls, tokens_input, tokens_output,
  tokens_cached, cost_micros, started_at, completed_at, updated_at, last_sequence, correlation_id
) VALUES ($1, $2, $3, $4, 0, 1, 2, 3, 50, 7, 0, 9, $5, $5, $5, 1, 'c')
"""
USAGE = """
INSERT INTO projections.ai_usage_daily VALUES ($1, $2, $3, 4, 5, 0, 6, 1, 700, 30, 0)
"""
MODELS = """
INSERT INTO projections.ai_usage_models_daily VALUES ($1, $2, $3, 'openai', 'gpt-4o', $4, 'v1', 5, 700, 30, 0, 1234567)
"""


@asynccontextmanager
async def opened_database(postgres_url: str) -> AsyncIterator[tuple[Pool, str]]:
    """Yield a pool of a database of its own, with all tables, and its name."""
    async with own_pool(postgres_url, "reports", size=8) as pool:
        await migrate(pool)
        await SCHEMA.ensure(pool)
        await gateway(pool).open()
        yield pool, await pool.fetchval("SELECT current_database()")


def gateway(pool: Pool, now: datetime = NOW) -> ReportGateway:
    return ReportGateway(pool, TEMPLATES, lambda: int(now.timestamp() * 1000))


async def give_a_past(pool: Pool, site: SiteId, *, days: int = 70, most: int = 5) -> None:
    """Let something happen on each of the `days` before NOW, and on the day itself: on the edges of days too."""
    midnight = NOW.replace(hour=0)
    for back in range(days):
        day = midnight - timedelta(days=back)
        moments = [
            day,
            day + timedelta(hours=23, minutes=59, seconds=59, microseconds=999_999),
            day + timedelta(hours=9),
        ]
        for number in range(back % most + 1):
            at, contact = moments[number % 3], random_id()
            status = ("lead", "customer")[number % 2]
            await pool.execute(CONTACT, site, contact, f"{random_id()}@example.com", f"Company {number}", status, at)
            await pool.execute(NOTE, site, random_id(), contact, at)
            await pool.execute(TASK, site, random_id(), at)
            await pool.execute(EMAIL, site, random_id(), ("draft", "sent")[number % 2], at)
            outcome = ("completed", "failed", "cancelled", "timed_out", "completed")[number % 5]
            await pool.execute(RUN, site, random_id(), AGENT, outcome, at)
        await pool.execute(USAGE, site, day.date(), AGENT)
        for currency in ("EUR", "USD"):
            await pool.execute(MODELS, site, day.date(), AGENT, currency)


def request(site: SiteId, tool: str, call_id: str | None = None, **arguments: Json) -> ToolRequest:
    definition = REGISTRY.get(tool)
    assert validator_for(definition)(arguments) is None, validator_for(definition)(arguments)
    return ToolRequest(
        call_id=CallId(call_id or random_id()),
        tool=definition,
        arguments=arguments,
        site_id=site,
        agent_id=AGENT,
        execution_id=ExecutionId(random_id()),
        correlation_id="first-cause",
    )


async def use(door: ReportGateway, asked: ToolRequest) -> JsonObject:
    assert asked.tool.module is not None
    assert asked.tool.action is not None
    result: JsonObject = await door.call(asked.tool.module, asked.tool.action, asked)
    return result


async def make(door: ReportGateway, site: SiteId, template: str = "weekly_performance", **more: Json) -> JsonObject:
    given = {"narrative": NARRATIVE[template], **more}
    return await use(door, request(site, "generate_report", template=template, **given))
