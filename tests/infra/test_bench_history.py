"""The history that restarts are measured on is one that owners would have written."""

from infra.bench.history import STEPS, open_histories, probe
from processors.runtime.reading import asked, fold
from processors.runtime.stream import Stream
from streams.log import Record
from streams.topics import COMMANDS, EVENTS, is_genesis
from tests.processors.fakes import new_log
from tests.processors.samples import SITE

DAY_MS = 86_400_000


async def test_a_made_history_folds_to_the_state_it_was_made_with() -> None:
    log = await new_log(2)
    histories = await open_histories(log, SITE, agents=5, events=400, span_ms=DAY_MS)
    for history in histories:
        workers = list(history.streams)[:-1]
        assert workers
        for agent_id in workers:
            for _ in range(3):
                history.run(agent_id)
            for steps in range(1, STEPS):
                history.run(agent_id, steps, pays=True)
        await history.flush(all_of_it=True)
    for history in histories:
        streams: dict[bytes, Stream] = {}
        counted = sum(fold(streams, record) for record in log.records(EVENTS, history.number))
        assert counted == history.events == history.events_end - 1
        assert streams == {agent_id.encode(): stream for agent_id, stream in history.streams.items()}
        assert log.end(COMMANDS, history.number) == history.commands_end
        for record in log.records(COMMANDS, history.number):
            found = asked(streams, record)
            assert found is None or is_genesis(record), "a command that nobody decided"
        waiting = [run for stream in streams.values() for run in stream.runs.values()]
        assert len(waiting) == 3 * (len(history.streams) - 1)
        assert all(call.status == "approval" for run in waiting for call in run.open_calls())


async def test_a_probe_is_decided_by_the_agent_that_does_nothing_else() -> None:
    log = await new_log(1)
    (history,) = await open_histories(log, SITE, agents=2, events=100, span_ms=DAY_MS)
    draft = probe(history)
    record = Record(COMMANDS, 0, history.commands_end, history.at_ms, draft.key, draft.value, draft.headers)
    streams = {agent_id.encode(): stream for agent_id, stream in history.streams.items()}
    found = asked(streams, record)
    assert found is not None
    assert found[0].agent.id == list(history.streams)[-1]
