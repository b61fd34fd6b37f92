"""Steps: what the model was told, and what it answered. Rows are written once."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class StepRow:
    """One step; see the view `ai_agent_execution_steps` for what was done in it."""

    site_id: Uuid
    execution_id: Uuid
    sequence: int
    step_number: int
    step_type: str
    at: datetime
    duration_ms: int | None = None
    input_text: str | None = None
    reasoning: str | None = None
    output_text: str | None = None
    error: str | None = None
    provider: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    tokens_input: int | None = None
    tokens_output: int | None = None
    tokens_cached: int | None = None
    cost_micros: int | None = None
    currency: str | None = None
    prompt_sha256: str | None = None


STEPS = statement(
    StepRow,
    """
INSERT INTO projections.ai_agent_steps (
  site_id, execution_id, sequence, step_number, step_type, at, duration_ms, input_text, reasoning, output_text,
  error, provider, model, finish_reason, tokens_input, tokens_output, tokens_cached, cost_micros, currency,
  prompt_sha256
)
SELECT
  site_id, execution_id, sequence, step_number, step_type, at, duration_ms, input_text, reasoning, output_text,
  error, provider, model, finish_reason, tokens_input, tokens_output, tokens_cached, cost_micros, currency,
  prompt_sha256
FROM :rows
""",
)
