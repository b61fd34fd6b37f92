"""`dramac replay` on a Kafka of its own, without a Postgres: what a worker wrote is found and decided again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from infra.cli.common import FAILED, NOT_FOUND, USAGE
from infra.dev.kafka import KafkaServer
from processors.runtime import decision as deciding
from processors.runtime.process import Process
from processors.runtime.stream import Stream, decide
from processors.runtime.worker import Worker
from schemas.commands import AnyCommand
from schemas.envelope import CommandEnvelope, EventEnvelope
from schemas.events import Event, ExecutionCompleted
from schemas.ids import CommandId, random_id
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from streams.partitioner import partition_of
from streams.records import Asked, decode_event, encode_command
from streams.replay import read_span
from streams.topics import COMMANDS, EVENTS
from tests.infra.cli_runs import dramac
from tests.processors.asks import activate, call, create, start
from tests.processors.fakes import StubContext, StubModel, StubTools, steps
from tests.processors.samples import AGENT, OTHER_SITE, SITE, USER, config

RUNS, PARTITIONS, WAIT_S = 5, 2, 40


@dataclass(frozen=True)
class Place:
    """The settings, and what the worker wrote about the agent."""

    settings: dict[str, str]
    history: list[EventEnvelope]

    @property
    def runs(self) -> list[str]:
        return [e.subject for e in self.history if e.type == "ai.execution.started"]


async def say(log: KafkaLog, *commands: AnyCommand) -> None:
    for command in commands:
        asked = Asked(CommandId(random_id()), SITE, AGENT, USER, "correlation-1", command)
        await log.send(COMMANDS, encode_command(asked))


async def history(log: KafkaLog) -> list[EventEnvelope]:
    partition = partition_of(AGENT.encode(), PARTITIONS)
    held = await log.bounds(EVENTS, partition)
    return [decode_event(r) async for rs in read_span(log, EVENTS, partition, held) for r in rs if r.key is not None]


def ended(told: list[EventEnvelope]) -> int:
    return sum(isinstance(envelope.event, ExecutionCompleted) for envelope in told)


@pytest_asyncio.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    home = tmp_path_factory.mktemp("replay")
    async with KafkaServer(home / "kafka") as server, KafkaLog(server.address) as log:
        await create_topics(server.address, partitions=PARTITIONS, replication_factor=1, module_topics=())
        model = StubModel(steps((call("a"),), "Done."))
        worker = asyncio.create_task(Worker(Process(log, model, StubTools(), StubContext())).run())
        now_ms = time.time_ns() // 1_000_000
        starts = [start(f"t{number}", time_ms=now_ms) for number in range(RUNS)]
        await say(log, create(config(max_concurrent_runs=RUNS)), activate(), *starts)
        async with asyncio.timeout(WAIT_S):
            while ended(told := await history(log)) < RUNS:
                assert not worker.done(), worker
                await asyncio.sleep(0.05)
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
        settings = {
            "DRAMAC_KAFKA": server.address,
            "DRAMAC_DATA_DIR": str(home / "data"),
            "DRAMAC_SITE": SITE,
        }
        yield Place(settings, told)


def test_every_run_is_byte_identical(place: Place) -> None:
    ran = dramac(place.settings, "replay", "--strict", "--all")
    assert (ran.code, ran.err) == (0, "")
    events = len(place.history)
    assert ran.out.startswith(f"replay: {RUNS} runs byte-identical ({events} events of ")
    told = dramac(place.settings, "replay", "--strict", "--all", "--json").json
    assert (told["ok"], told["runs"], told["identical_runs"], told["events"]) == (True, RUNS, RUNS, events)
    assert told["differences"] == []


def test_one_agent_and_one_run_are_decided_again(place: Place) -> None:
    by_slug = dramac(place.settings, "replay", "--strict", "--agent", "sales")
    assert by_slug.out.startswith(f"replay: {RUNS} runs byte-identical")
    by_id = dramac(place.settings, "replay", "--strict", "--agent", AGENT.upper())
    assert by_id.out == by_slug.out
    one = dramac(place.settings, "replay", "--strict", place.runs[0])
    assert (one.code, one.err) == (0, "")
    assert one.out.startswith("replay: 1 run byte-identical")
    nobody = dramac(place.settings, "replay", "--strict", "--agent", "nobody")
    assert nobody.code == NOT_FOUND


def test_another_decider_is_found_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def loudly(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
        events = decide(stream, envelope, at_ms)
        return [e.model_copy(update={"result": "!"}) if isinstance(e, ExecutionCompleted) else e for e in events]

    monkeypatch.setattr(deciding, "decide", loudly)
    ran = dramac(place.settings, "replay", "--strict", "--all")
    assert ran.code == FAILED
    lines = ran.out.splitlines()
    assert len(lines) == RUNS + 1
    assert lines[0].startswith("differs: offset ")
    expected, found = lines[0].split("found", 1)
    assert '"result":"!"' in expected
    assert '"result":"Done."' in found
    assert lines[-1].startswith(f"replay: DIFFERENT ({RUNS} differences; 0 of {RUNS} runs byte-identical; ")
    one = dramac(place.settings, "replay", "--strict", place.runs[1], "--json")
    assert one.code == FAILED
    assert [d["runs"] for d in one.json["differences"]] == [[place.runs[1]]]


def test_a_run_is_shown_at_any_sequence(place: Place) -> None:
    run_id = place.runs[0]
    whole = dramac(place.settings, "replay", run_id)
    assert (whole.code, whole.err) == (0, "")
    assert f"run {run_id} at sequence {len(place.history)} of {len(place.history)}: completed" in whole.out
    assert "awaits nothing" in whole.out
    assert "assistant: Done." in whole.out
    for envelope in place.history:
        if envelope.subject == run_id:
            told = dramac(place.settings, "replay", run_id, "--at", str(envelope.sequence), "--json").json
            assert (told["sequence"], told["timeline"][-1]["sequence"]) == (envelope.sequence, envelope.sequence)
            if envelope.type == "ai.step.observed":
                assert told["status"] == "thinking"
                assert told["awaits"][0]["execution_id"] == run_id


def test_a_point_at_which_there_is_no_run(place: Place) -> None:
    early = dramac(place.settings, "replay", place.runs[0], "--at", "1")
    assert early.code == NOT_FOUND
    assert early.says_in_one_line("begins at sequence")
    late = dramac(place.settings, "replay", place.runs[0], "--at", "9999")
    assert late.code == NOT_FOUND
    assert late.says_in_one_line(f"ends at sequence {len(place.history)}")


def test_a_run_that_is_not_there(place: Place) -> None:
    unknown = dramac(place.settings, "replay", "ffffffff")
    assert unknown.code == NOT_FOUND
    assert unknown.says_in_one_line("there is no run 'ffffffff'")
    common = place.runs[0][:4]
    assert dramac(place.settings, "replay", common).says_in_one_line("names more than one run")
    elsewhere = dramac({**place.settings, "DRAMAC_SITE": OTHER_SITE}, "replay", place.runs[0])
    assert elsewhere.code == NOT_FOUND
    assert dramac(place.settings, "replay", "zz").code == NOT_FOUND


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "a run's id"),
        (("--strict",), "a run's id, --agent or --all"),
        (("--strict", "0190", "--all"), "a run's id, --agent or --all"),
        (("--all",), "go with --strict"),
        (("--strict", "0190", "--at", "3"), "without --strict"),
    ],
)
def test_what_is_to_be_replayed_must_be_said(place: Place, arguments: tuple[str, ...], said: str) -> None:
    ran = dramac(place.settings, "replay", *arguments)
    assert ran.code == USAGE
    assert ran.says_in_one_line(said)
