"""The commands that read and write the log, on a Kafka and a Postgres of their own."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import pytest_asyncio

from infra.cli.common import FAILED, INTERRUPTED, NOT_FOUND, USAGE
from infra.dev.kafka import KafkaServer
from projections.migrate import migrate
from streams.kafka import KafkaLog
from streams.kafka_topics import create_definitions
from streams.log import Draft
from streams.partitioner import partition_of
from streams.topics import EVENTS, MODULE_EVENTS, TopicDefinition, log_id, module_topic
from tests.databases import database_url, own_database
from tests.infra.cli_runs import PROJECT, dramac, dramac_process
from tests.streams.dumps import SITE, agent, busy_place

PARTITIONS = 4
SMALL = "module.small"
CREATED = b'{"type":"crm.contact.created","subject":"c-1","data":{"n":1}}'
INSERT_HEAD = "INSERT INTO projections.stream_heads (partition, agent_id, sequence, chain) VALUES ($1, $2, $3, $4)"
INSERT_CHECKPOINT = """
INSERT INTO projections.projection_checkpoints (projection, topic, partition, log_id, next_offset)
VALUES ('read_models', 'ai.events', $1, $2, 0)
"""

Settings = dict[str, str]
T = TypeVar("T")


def now(work: Coroutine[Any, Any, T]) -> T:
    """Do it in a loop of its own, as the commands do."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(work)


@pytest_asyncio.fixture(scope="module")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A Kafka for these tests alone: our topics have one name in every test."""
    async with KafkaServer(tmp_path_factory.mktemp("cli") / "kafka") as server:
        yield server.address


@pytest_asyncio.fixture(scope="module")
async def database(postgres_url: str) -> AsyncIterator[str]:
    """An empty database."""
    async with own_database(postgres_url, "cli") as url:
        yield url


@pytest.fixture(scope="module")
def settings(kafka: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return {
        "DRAMAC_KAFKA": kafka,
        "DRAMAC_POSTGRES": database,
        "DRAMAC_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "DRAMAC_PARTITIONS": str(PARTITIONS),
        "DRAMAC_REPLICATION_FACTOR": "1",
        "DRAMAC_SITE": SITE,
    }


@pytest.fixture(scope="module")
def topics(settings: Settings) -> Settings:
    """The settings, with our topics there."""
    assert dramac(settings, "topics", "check").code == FAILED
    created = dramac(settings, "topics", "create")
    assert created.code == 0
    assert created.out.startswith("created ai.commands, ai.events")
    return settings


@pytest_asyncio.fixture(scope="module")
async def filled(topics: Settings, kafka: str) -> AsyncIterator[Settings]:
    """The settings, with five streams in the log, rivals' records among them, and the modules' topics there."""
    place = await busy_place()
    async with KafkaLog(kafka) as log:
        for record in place.log.records(EVENTS):
            if record.key is not None:
                await log.append(
                    EVENTS, partition_of(record.key, PARTITIONS), [Draft(record.key, record.value, record.headers)]
                )
        yield topics


@pytest_asyncio.fixture(scope="module")
async def anchored(filled: Settings, kafka: str, database: str) -> Settings:
    """The settings, with the heads of all streams in Postgres."""
    place = await busy_place()
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool, KafkaLog(kafka) as log:
        await migrate(pool)
        for partition in range(PARTITIONS):
            await pool.execute(INSERT_CHECKPOINT, partition, await log_id(log, EVENTS, partition))
        for stream, head in place.heads.items():
            home = partition_of(stream.encode(), PARTITIONS)
            await pool.execute(INSERT_HEAD, home, stream, head.sequence, head.chain)
    return filled


@pytest_asyncio.fixture(scope="module")
async def modules(topics: Settings, kafka: str) -> Settings:
    """The settings, with a module's topic, and a second one that takes little."""
    wanted = [module_topic(), TopicDefinition(SMALL, max_message_bytes=1_000)]
    async with KafkaLog(kafka) as log:
        await create_definitions(log, wanted, partitions=2, replication_factor=1)
    return topics


# --- topics ---------------------------------------------------------------------------------------------------------


def test_creating_topics_again_changes_nothing(topics: Settings) -> None:
    again = dramac(topics, "topics", "create")
    assert (again.code, again.out, again.err) == (0, "all topics are there\n", "")
    assert dramac(topics, "topics", "create", "--json").json == {"created": []}


def test_another_number_of_partitions_is_refused(topics: Settings) -> None:
    ran = dramac(topics, "topics", "create", "--partitions", "5")
    assert ran.code == USAGE
    assert ran.says_in_one_line("has 4 partitions, not 5")


def test_topics_are_checked(modules: Settings) -> None:
    ran = dramac(modules, "topics", "check")
    assert (ran.code, ran.out, ran.err) == (0, "topics: OK\n", "")
    wrong = dramac(modules, "topics", "check", "--partitions", "5", "--json")
    assert (wrong.code, wrong.json["ok"]) == (FAILED, False)
    assert {problem["topic"] for problem in wrong.json["problems"]} >= {EVENTS}


# --- publish --------------------------------------------------------------------------------------------------------


async def ends(kafka: str, topic: str) -> int:
    async with KafkaLog(kafka) as log:
        return sum([(await log.bounds(topic, p)).end for p in range(await log.partitions(topic))])


def test_events_are_published(modules: Settings, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(CREATED + b"\n\n" + CREATED + b"\n")
    ran = dramac(modules, "publish", str(file))
    assert (ran.code, ran.out, ran.err) == (0, "published 2 events\n", "")
    told = dramac(modules, "publish", "-", "--json", stdin=b"[" + CREATED + b"]").json
    assert [(found["type"], found["topic"]) for found in told] == [("crm.contact.created", MODULE_EVENTS)]
    assert told[0]["offset"] >= 0
    assert dramac(modules, "publish", "-").out == "published 0 events\n"


def test_the_examples_are_published(modules: Settings) -> None:
    for file in sorted((PROJECT / "examples" / "events").glob("*.jsonl")):
        assert dramac(modules, "publish", str(file)).out.startswith("published ")


def test_of_a_file_with_a_wrong_event_nothing_is_published(modules: Settings, kafka: str) -> None:
    before = now(ends(kafka, MODULE_EVENTS))
    ran = dramac(modules, "publish", "-", stdin=CREATED + b"\n{}\n")
    assert ran.code == USAGE
    assert ran.says_in_one_line("line 2", "'type' is missing", "nothing was published")
    assert now(ends(kafka, MODULE_EVENTS)) == before


def test_of_a_file_with_too_large_an_event_nothing_is_published(modules: Settings, kafka: str) -> None:
    large = b'{"type":"a","data":"' + b"x" * 2_000 + b'"}'
    ran = dramac(modules, "publish", "-", "--topic", SMALL, stdin=CREATED + b"\n" + large)
    assert ran.code == FAILED
    assert ran.says_in_one_line("line 2", "takes 1,000", "nothing was published")
    assert now(ends(kafka, SMALL)) == 0


def test_a_topic_that_is_not_there(modules: Settings) -> None:
    ran = dramac(modules, "publish", "-", "--topic", "no.topic", stdin=CREATED)
    assert ran.code == NOT_FOUND
    assert ran.says_in_one_line("there is no topic 'no.topic'")


# --- events ---------------------------------------------------------------------------------------------------------


def test_all_events_that_count_are_printed(filled: Settings) -> None:
    ran = dramac(filled, "events", "tail", "--from-beginning", "--limit", "33")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("agent.activated") == 33
    assert "Rival" not in ran.out
    assert "Zombie" not in ran.out


def test_events_are_filtered_and_printed_as_cloudevents(filled: Settings) -> None:
    options = ("--from-beginning", "--type", "ai.tool.*", "--type", "*.activated", "--agent", "agent-1", "--json")
    ran = dramac(filled, "events", "tail", *options, "--limit", "6")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["sequence"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event["subject"] for event in events} == {agent(1)}
    assert events[0]["data"] == {"id": agent(1), "name": "Jörg"}
    same = dramac(filled, "events", "tail", "--from-beginning", "--agent", agent(1).upper(), "--json", "--limit", "6")
    assert same.out == ran.out


def test_ctrl_c_ends_the_tail(filled: Settings) -> None:
    with dramac_process(filled, "events", "tail", "--from-beginning", "--json") as tail:
        assert tail.stdout is not None
        assert b"ai.agent.activated" in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        _, err = tail.communicate(timeout=20)
    assert (tail.returncode, err) == (INTERRUPTED, b"stopped\n")


def test_a_dump_is_written_and_whole(anchored: Settings, tmp_path: Path) -> None:
    file = tmp_path / "dump.jsonl"
    ran = dramac(anchored, "events", "dump", "--output", str(file))
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"41 records written to {file}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["dump.jsonl"]
    assert file.stat().st_mode & 0o077 == 0
    assert dramac(anchored, "events", "dump").out.encode() == file.read_bytes()
    checked = dramac(anchored, "verify", "--dump", str(file))
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == "verify: OK (33 events, 5 streams; 4 records that don't count)\n"
    assert dramac(anchored, "verify", "--dump", str(file), "--json").json["anchors"] == 5


def test_a_dump_that_can_not_be_written(filled: Settings, tmp_path: Path) -> None:
    ran = dramac(filled, "events", "dump", "--output", str(tmp_path / "no" / "dump.jsonl"))
    assert ran.code == USAGE
    assert ran.says_in_one_line("can't be written")


def test_a_dump_into_a_closed_pipe_ends_quietly(filled: Settings) -> None:
    with dramac_process(filled, "events", "dump") as dump:
        assert dump.stdout is not None
        dump.stdout.close()
        assert dump.stderr is not None
        assert dump.stderr.read() == b""
    assert dump.returncode == 0


# --- verify ---------------------------------------------------------------------------------------------------------


def test_a_log_without_anchors_is_verified_and_says_so(filled: Settings, postgres_url: str) -> None:
    ran = dramac({**filled, "DRAMAC_POSTGRES": without_tables(postgres_url)}, "verify")
    assert (ran.code, ran.err) == (0, "without anchors\n")


def without_tables(postgres_url: str) -> str:
    return database_url(postgres_url, "template1")


def test_a_whole_log_is_verified(anchored: Settings) -> None:
    ran = dramac(anchored, "verify")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "verify: OK (33 events, 5 streams; 4 records that don't count)\n"


async def change(database: str, sql: str, *values: object) -> None:
    db = await asyncpg.connect(database)
    await db.execute(sql, *values)
    await db.close()


def test_a_lost_tail_is_found_by_its_anchor(anchored: Settings, database: str) -> None:
    longer = "UPDATE projections.stream_heads SET sequence = sequence + $2 WHERE agent_id = $1"
    now(change(database, longer, agent(2), 1))
    try:
        ran = dramac(anchored, "verify", "--json")
        assert (ran.code, ran.json["ok"], ran.json["anchors"]) == (FAILED, False, 5)
        assert [(found["stream"], found["sequence"]) for found in ran.json["breaks"]] == [(agent(2), 8)]
        assert dramac(anchored, "verify").out.startswith(f"broken: stream {agent(2)} at sequence 8")
    finally:
        now(change(database, longer, agent(2), -1))


def test_a_topic_made_anew_is_found_by_its_log_id(anchored: Settings, database: str) -> None:
    swap = "UPDATE projections.projection_checkpoints SET log_id = reverse(log_id) WHERE partition = 0"
    now(change(database, swap))
    try:
        ran = dramac(anchored, "verify")
        assert ran.code == FAILED
        assert "deleted and made anew" in ran.out
    finally:
        now(change(database, swap))


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_all_well(anchored: Settings, modules: Settings) -> None:
    ran = dramac(anchored, "doctor", "--json")
    states = {finding["name"]: (finding["state"], finding["text"]) for finding in ran.json["findings"]}
    assert (ran.code, ran.json["ok"]) == (0, True), ran.out
    assert "Kafka 4.0 or newer" in states["kafka"][1]
    for name in ("topics", "postgres", "migrations", "vector", "database clock", "java"):
        assert states[name][0] == "ok", states[name]
    assert dramac(modules, "doctor").out.count("✗") == 0
