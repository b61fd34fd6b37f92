"""Usage: every reply that was received is metered once, whatever became of its run."""

from dataclasses import dataclass
from datetime import date

from projections.db import Uuid, statement


@dataclass(slots=True)
class UsageDelta:
    """What a batch adds to an agent's UTC day."""

    site_id: Uuid
    date: date
    agent_id: Uuid
    agent_runs: int = 0
    llm_calls: int = 0
    unsettled_calls: int = 0
    tool_calls: int = 0
    approvals: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cached: int = 0


USAGE = statement(
    UsageDelta,
    """
INSERT INTO projections.ai_usage_daily AS u (
  site_id, date, agent_id, agent_runs, llm_calls, unsettled_calls, tool_calls, approvals,
  tokens_input, tokens_output, tokens_cached
)
SELECT
  site_id, date, agent_id, agent_runs, llm_calls, unsettled_calls, tool_calls, approvals,
  tokens_input, tokens_output, tokens_cached
FROM :rows
ON CONFLICT (site_id, date, agent_id) DO UPDATE SET
  agent_runs = u.agent_runs + excluded.agent_runs,
  llm_calls = u.llm_calls + excluded.llm_calls,
  unsettled_calls = u.unsettled_calls + excluded.unsettled_calls,
  tool_calls = u.tool_calls + excluded.tool_calls,
  approvals = u.approvals + excluded.approvals,
  tokens_input = u.tokens_input + excluded.tokens_input,
  tokens_output = u.tokens_output + excluded.tokens_output,
  tokens_cached = u.tokens_cached + excluded.tokens_cached
""",
)


@dataclass(slots=True)
class ModelUsageDelta:
    """What a batch adds to what a model cost an agent on a UTC day."""

    site_id: Uuid
    date: date
    agent_id: Uuid
    provider: str
    model: str
    currency: str
    price_version: str
    llm_calls: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cached: int = 0
    cost_micros: int = 0


MODEL_USAGE = statement(
    ModelUsageDelta,
    """
INSERT INTO projections.ai_usage_models_daily AS u (
  site_id, date, agent_id, provider, model, currency, price_version,
  llm_calls, tokens_input, tokens_output, tokens_cached, cost_micros
)
SELECT
  site_id, date, agent_id, provider, model, currency, price_version,
  llm_calls, tokens_input, tokens_output, tokens_cached, cost_micros
FROM :rows
ON CONFLICT (site_id, date, agent_id, provider, model, currency, price_version) DO UPDATE SET
  llm_calls = u.llm_calls + excluded.llm_calls,
  tokens_input = u.tokens_input + excluded.tokens_input,
  tokens_output = u.tokens_output + excluded.tokens_output,
  tokens_cached = u.tokens_cached + excluded.tokens_cached,
  cost_micros = u.cost_micros + excluded.cost_micros
""",
)
