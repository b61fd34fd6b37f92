"""The prompt of any step, made again from the log."""

import pytest

from processors.runtime.replay import prompt_of
from schemas.errors import NotFoundError
from schemas.events import ExecutionStarted
from streams.topics import EVENTS
from tests.processors.asks import activate, call, create, start, update
from tests.processors.fakes import Owner, StubModel, counting, history, lines, new_log, process, steps, tell, until
from tests.processors.samples import AGENT, config


async def test_every_prompt_of_a_run_is_the_one_that_was_asked() -> None:
    log = await new_log()
    model = StubModel(steps((call("a"), call("b", "look_up", id="7")), (call("c", "no_such_tool"),), "Done."))
    async with Owner(process(log, model), log):
        await tell(log, create(config(max_steps_per_run=2)), activate(), start(data={"text": "naïve \u2028"}))
        await until(lambda: "execution.failed (max_steps_reached)" in lines(log))
        await tell(log, update(name="Another", system_prompt="Something else."), start("later"))
        await until(lambda: len(model.requests) >= 4)
    run_id = history(log).all(ExecutionStarted)[0].execution_id
    records = log.records(EVENTS)
    for request in model.requests[:3]:
        prompt = prompt_of(records, AGENT, run_id, request.step)
        assert (prompt.messages, prompt.tools) == (request.messages, request.tools)
        assert prompt.is_the_recorded_one
    with pytest.raises(NotFoundError, match="has no step 9: its steps are 1 to 3"):
        prompt_of(records, AGENT, run_id, 9)
    assert counting(log)


async def test_a_prompt_that_is_not_the_recorded_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    log = await new_log()
    async with Owner(process(log), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.completed" in lines(log))
    monkeypatch.setattr("processors.executions.prompt._GUIDELINES", "Do as you like.")
    prompt = prompt_of(log.records(EVENTS), AGENT, history(log).the(ExecutionStarted).execution_id, 1)
    assert not prompt.is_the_recorded_one
