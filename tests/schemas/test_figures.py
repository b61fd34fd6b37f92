"""Figures that only describe are bounded where they come in: tables that all sites share add them up."""

import pytest

from schemas.commands import FIGURE_LIMIT, STEP_LIMIT, RecordThought, RecordToolResult
from schemas.message import JsonObject

ID = "0f8fad5b-d9cb-869f-a165-70867728950e"
THOUGHT: JsonObject = {"execution_id": ID, "step": 1, "reply_id": "r", "provider": "p", "model": "m"}
RESULT: JsonObject = {"execution_id": ID, "call_id": ID, "output": None}


@pytest.mark.parametrize("told", [FIGURE_LIMIT + 1, 2**63, 10**30])
def test_more_is_taken_for_the_most(told: int) -> None:
    thought = RecordThought.model_validate({**THOUGHT, "latency_ms": told, "step": told})
    assert (thought.latency_ms, thought.step) == (FIGURE_LIMIT, STEP_LIMIT)
    result = RecordToolResult.model_validate({**RESULT, "duration_ms": told, "full_bytes": told})
    assert (result.duration_ms, result.full_bytes) == (FIGURE_LIMIT, FIGURE_LIMIT)


def test_usual_figures_stay_as_they_are() -> None:
    thought = RecordThought.model_validate({**THOUGHT, "latency_ms": 731, "step": 20})
    assert (thought.latency_ms, thought.step) == (731, 20)
    assert RecordToolResult.model_validate({**RESULT, "duration_ms": 3_600_000}).full_bytes is None
