"""What was used, and what it cost: in integer micro-units, never across currencies, by UTC days."""

from dataclasses import dataclass
from datetime import date

from projections.db import Pool
from projections.queries.reading import Where, fetch, make
from schemas.ids import AgentId, SiteId

COUNTS = """
  sum(agent_runs)::bigint AS agent_runs, sum(llm_calls)::bigint AS llm_calls,
  sum(unsettled_calls)::bigint AS unsettled_calls, sum(tool_calls)::bigint AS tool_calls,
  sum(approvals)::bigint AS approvals, sum(tokens_input)::bigint AS tokens_input,
  sum(tokens_output)::bigint AS tokens_output, sum(tokens_cached)::bigint AS tokens_cached
FROM projections.ai_usage_daily
"""
DAILY = "SELECT site_id::text, date, agent_id::text," + COUNTS
TOTALS = "SELECT" + COUNTS
MODELS = """
SELECT site_id::text, date, agent_id::text, provider, model, currency, price_version,
  llm_calls, tokens_input, tokens_output, tokens_cached, cost_micros
FROM projections.ai_usage_models_daily
"""
MODEL_TOTALS = """
SELECT provider, model, currency, price_version, sum(llm_calls)::bigint AS llm_calls,
  sum(tokens_input)::bigint AS tokens_input, sum(tokens_output)::bigint AS tokens_output,
  sum(tokens_cached)::bigint AS tokens_cached, sum(cost_micros)::bigint AS cost_micros
FROM projections.ai_usage_models_daily
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted. `unsettled_calls` are model calls given up without a word on what they cost."""

    agent_runs: int = 0
    llm_calls: int = 0
    unsettled_calls: int = 0
    tool_calls: int = 0
    approvals: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cached: int = 0


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model cost at one price. `price_version` is empty where no price was known."""

    provider: str
    model: str
    currency: str
    price_version: str
    llm_calls: int
    tokens_input: int
    tokens_output: int
    tokens_cached: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class UsageDay:
    """An agent's UTC day."""

    site_id: SiteId
    date: date
    agent_id: AgentId
    counts: Counts
    models: tuple[ModelUsage, ...]


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Several days. `models` is by model, currency and price."""

    counts: Counts
    models: tuple[ModelUsage, ...]

    @property
    def cost_micros(self) -> dict[str, int]:
        """The sum of each currency."""
        sums: dict[str, int] = {}
        for line in self.models:
            sums[line.currency] = sums.get(line.currency, 0) + line.cost_micros
        return sums


async def daily_usage(
    pool: Pool, site_id: SiteId | None, first: date, last: date, *, agent_id: AgentId | None = None
) -> tuple[UsageDay, ...]:
    """Return every agent's days from `first` to `last`, both included, by date."""
    where = _between(site_id, first, last, agent_id)
    group = "GROUP BY site_id, date, agent_id ORDER BY date, site_id, agent_id"
    days = await fetch(pool, where.sql(DAILY, group), *where.values)
    order = "ORDER BY provider, model, currency, price_version"
    models: dict[tuple[str, date, str], list[ModelUsage]] = {}
    for row in await fetch(pool, where.sql(MODELS, order), *where.values):
        values = dict(row)
        key = (values.pop("site_id"), values.pop("date"), values.pop("agent_id"))
        models.setdefault(key, []).append(make(ModelUsage, values))
    found = []
    for row in days:
        values = dict(row)
        key = (values.pop("site_id"), values.pop("date"), values.pop("agent_id"))
        found.append(UsageDay(SiteId(key[0]), key[1], AgentId(key[2]), Counts(**values), tuple(models.get(key, ()))))
    return tuple(found)


async def total_usage(
    pool: Pool, site_id: SiteId | None, first: date, last: date, *, agent_id: AgentId | None = None
) -> UsageTotals:
    """Return the sums of the days from `first` to `last`, both included."""
    where = _between(site_id, first, last, agent_id)
    (counts,) = await fetch(pool, where.sql(TOTALS), *where.values)
    group = "GROUP BY provider, model, currency, price_version ORDER BY provider, model, currency, price_version"
    models = await fetch(pool, where.sql(MODEL_TOTALS, group), *where.values)
    return UsageTotals(
        Counts(**{name: value or 0 for name, value in counts.items()}),
        tuple(make(ModelUsage, row) for row in models),
    )


def _between(site_id: SiteId | None, first: date, last: date, agent_id: AgentId | None) -> Where:
    where = Where()
    where.given("site_id = ?", site_id)
    where.add("date BETWEEN ? AND ?", first, last)
    where.given("agent_id = ?", agent_id)
    return where
