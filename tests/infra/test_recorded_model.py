"""A run played again with the replies that it was given: against the same code, and against another."""

from pathlib import Path

import pytest

from infra.models.opening import open_models
from infra.models.recorded import RecordedModel
from processors.models.port import ModelPort, ModelRequest
from processors.runtime.process import Process
from schemas.chat import ChatMessage
from schemas.errors import ConfigurationError, ModelError
from schemas.events import ExecutionFailed, ExecutionStarted, StepModelFailed, StepThought, ToolRequested
from schemas.ids import ExecutionId
from streams.dump import dump_log
from streams.memory_log import MemoryLog
from streams.topics import EVENTS
from tests.processors.asks import activate, call, create, start
from tests.processors.fakes import Owner, StubContext, StubModel, StubTools, history, lines, new_log, steps, tell, until
from tests.processors.samples import AGENT, SITE, config

TURNS = ((call("a"), call("b", "look_up", id="7")), (call("c", "charge_card", id="9"),), "Done.")


async def played(model: ModelPort, **changes: object) -> MemoryLog:
    """Return the log of a run with this model."""
    log = await new_log()
    house = Process(log, model, StubTools(), StubContext(), now_ms=log._clock)
    async with Owner(house, log):
        await tell(log, create(config(**changes)), activate(), start())
        await until(lambda: lines(log)[-1:] and lines(log)[-1].startswith(("execution.completed", "execution.failed")))
    return log


async def recorded() -> tuple[MemoryLog, ExecutionId]:
    log = await played(StubModel(steps(*TURNS)))
    return log, history(log).the(ExecutionStarted).execution_id


def again(run_id: str, **changes: object) -> dict[str, object]:
    return {"llm_provider": "recorded", "llm_model": run_id, **changes}


async def test_a_run_played_again_says_and_does_the_same() -> None:
    before, run_id = await recorded()
    log = await played(RecordedModel.from_records(before.records(EVENTS)), **again(run_id))
    assert lines(log) == lines(before)
    then, now = history(before).all(StepThought), history(log).all(StepThought)
    assert [(t.text, t.finish_reason, t.usage) for t in now] == [(t.text, t.finish_reason, t.usage) for t in then]
    assert [[c.arguments for c in t.calls] for t in now] == [[c.arguments for c in t.calls] for t in then]


async def test_another_policy_is_tried_on_the_same_replies() -> None:
    before, run_id = await recorded()
    log = await played(RecordedModel.from_records(before.records(EVENTS)), **again(run_id, denied_tools=("charge_*",)))
    assert "tool.denied c (not_allowed)" in lines(log)
    assert len(history(log).all(ToolRequested)) == 2


async def test_a_run_that_asks_for_more_than_was_recorded_fails_and_says_why() -> None:
    before, run_id = await recorded()
    events = [e for e in history(before).events if not (isinstance(e, StepThought) and e.step == 3)]
    log = await played(RecordedModel.from_events(events), **again(run_id))
    failed = history(log).the(StepModelFailed)
    assert failed.reason == "recording"
    assert failed.message.endswith(
        "has answers to 2 questions, and step 3 asks one more: it was played against something else then"
    )
    assert history(log).the(ExecutionFailed).reason == "model_failed"


async def test_recordings_come_from_dumps_by_the_beginning_of_an_id(tmp_path: Path) -> None:
    before, run_id = await recorded()
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join([part async for part in dump_log(before)]))
    async with open_models({}, (), [path]) as models:
        log = await played(models, **again(run_id[:20]))
    assert lines(log) == lines(before)


async def test_a_model_that_is_no_run_is_one_clear_sentence() -> None:
    before, _ = await recorded()
    model = RecordedModel.from_records(before.records(EVENTS))
    words = (ChatMessage(role="user", content="hello"),)
    with pytest.raises(ModelError, match="names no recorded run") as caught:
        await model.complete(ModelRequest(SITE, AGENT, ExecutionId("e"), 1, "recorded", "nobody", words))
    assert caught.value.reason == "recording"


def test_a_file_that_is_no_dump_is_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match="is no dump of"):
        RecordedModel.from_dumps(path)
    with pytest.raises(ConfigurationError, match="can't be read"):
        RecordedModel.from_dumps(tmp_path / "nowhere")
