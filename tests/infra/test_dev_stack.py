"""The embedded stack with real servers: starts, crashes, owners that come and go."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import psutil
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.dev.kafka import KafkaServer
from infra.dev.ports import PortTakenError, answers
from infra.dev.postgres import PostgresServer
from infra.dev.process import until
from infra.dev.stack import Endpoints, Stack, embedded_stack, find_running
from schemas.errors import StackError
from tests.signals import hear_ctrl_c

KAFKA_ELSEWHERE = "192.0.2.1:9092"  # an address that is nobody's: Postgres alone is started, which is faster
OWNER = """
import asyncio, pathlib, sys
from infra.dev.stack import embedded_stack
async def main():
    async with embedded_stack(pathlib.Path(sys.argv[1]), kafka=sys.argv[2]) as endpoints:
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Both servers, started from nothing."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    await stack.start()
    yield stack
    await stack.stop()


def endpoints_of(stack: Stack) -> Endpoints:
    assert stack.kafka
    assert stack.postgres
    return Endpoints(stack.kafka.address, stack.postgres.address)


def pid_of(server: KafkaServer | PostgresServer | None) -> int:
    assert server
    assert server.process
    return server.process.identity.pid


async def execute(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def write(address: str, topic: str, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        limit = {"max.message.bytes": str(4 * 1024 * 1024 + 1024)}
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=limit)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all", max_request_size=8 * 1024 * 1024) as producer:
        await producer.send_and_wait(topic, value)


async def read(address: str, topic: str) -> object:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return (await asyncio.wait_for(consumer.getone(), 10)).value
    finally:
        await consumer.stop()


async def test_another_process_finds_the_running_stack(stack: Stack) -> None:
    assert await find_running(stack.data_dir) == endpoints_of(stack)


async def test_what_tells_the_password_is_readable_by_its_owner_only(stack: Stack) -> None:
    for file in (stack.data_dir / "stack.json", stack.data_dir / "postgres" / "password"):
        assert file.stat().st_mode & 0o077 == 0


async def test_a_second_owner_is_told_who_has_the_directory(stack: Stack) -> None:
    with pytest.raises(StackError, match=rf"already running \(pid {os.getpid()}\).*DRAMAC_DATA_DIR"):
        await Stack(stack.data_dir).start()
    assert await find_running(stack.data_dir) is not None


async def test_a_server_of_a_living_owner_is_not_taken_away(stack: Stack) -> None:
    pid_file = stack.data_dir / "postgres" / "server.pid"
    before = pid_file.read_text()
    parent = psutil.Process(os.getppid())
    owner = {"pid": parent.pid, "started": parent.create_time()}
    pid_file.write_text(json.dumps(json.loads(before) | {"owner": owner}))
    try:
        with pytest.raises(StackError, match=f"in use by process {parent.pid}"):
            await PostgresServer(stack.data_dir / "postgres").start()
    finally:
        pid_file.write_text(before)


async def test_ctrl_c_in_the_terminal_does_not_reach_the_servers(stack: Stack) -> None:
    for server in (stack.kafka, stack.postgres):
        assert os.getsid(pid_of(server)) != os.getsid(0)
        assert os.getpgid(pid_of(server)) != os.getpgid(0)


async def test_vectors_can_be_stored(stack: Stack) -> None:
    url = endpoints_of(stack).postgres
    await execute(url, "CREATE EXTENSION vector")
    assert await execute(url, "SELECT '[3,0]'::vector <-> '[0,4]'::vector") == 5


async def test_data_survives_kill_9_of_both_servers(stack: Stack) -> None:
    assert stack.kafka
    assert stack.postgres
    before = endpoints_of(stack)
    large = b"x" * (4 * 1024 * 1024)
    await write(before.kafka, "large", large)
    await execute(before.postgres, "CREATE TABLE kept AS SELECT 1 AS n")

    await asyncio.gather(stack.kafka.kill(), stack.postgres.kill())
    assert stack.kafka.process is None
    assert await find_running(stack.data_dir) is None
    await asyncio.gather(stack.kafka.start(), stack.postgres.start())

    assert endpoints_of(stack) == before
    assert await read(before.kafka, "large") == large
    assert await execute(before.postgres, "SELECT n FROM kept") == 1


async def test_data_survives_an_orderly_stop(stack: Stack) -> None:
    before = endpoints_of(stack)
    await write(before.kafka, "small", b"kept")
    await execute(before.postgres, "CREATE TABLE small AS SELECT 2 AS n")

    await stack.stop()
    assert await find_running(stack.data_dir) is None
    after = await stack.start()

    assert after == before
    assert await read(after.kafka, "small") == b"kept"
    assert await execute(after.postgres, "SELECT n FROM small") == 2


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts processes that own the stack of `tmp_path`."""
    owners: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", OWNER, str(tmp_path), KAFKA_ELSEWHERE]
        owner = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=hear_ctrl_c
        )
        owners.append(owner)
        assert owner.stdout
        assert owner.stdout.readline() == "ready\n"
        return owner

    yield start
    for owner in owners:
        owner.kill()
        owner.wait()
        assert owner.stdout
        owner.stdout.close()


def server_of(data_dir: Path) -> psutil.Process:
    return psutil.Process(json.loads((data_dir / "postgres" / "server.pid").read_text())["server"]["pid"])


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_servers_stop_when_their_owner_is_killed(
    tmp_path: Path, own: Callable[[], "subprocess.Popen[str]"]
) -> None:
    owner = own()
    server = server_of(tmp_path)
    assert await find_running(tmp_path) is not None

    owner.kill()
    owner.wait()

    assert await find_running(tmp_path) is None
    assert await until(lambda: has_ended(server), 10)


async def test_a_server_that_lost_owner_and_keeper_is_replaced_at_the_next_start(
    tmp_path: Path, own: Callable[[], "subprocess.Popen[str]"]
) -> None:
    owner = own()
    orphan = server_of(tmp_path)
    keeper = orphan.parent()
    assert keeper
    keeper.kill()
    owner.kill()
    owner.wait()
    assert await until(lambda: has_ended(keeper), 10)
    assert not has_ended(orphan)

    async with embedded_stack(tmp_path, kafka=KAFKA_ELSEWHERE) as endpoints:
        assert has_ended(orphan)
        assert server_of(tmp_path).pid != orphan.pid
        assert await execute(endpoints.postgres, "SELECT 1") == 1


async def test_ctrl_c_stops_the_servers_in_good_order(
    tmp_path: Path, own: Callable[[], "subprocess.Popen[str]"]
) -> None:
    owner = own()
    server = server_of(tmp_path)
    owner.send_signal(signal.SIGINT)
    owner.wait()
    assert has_ended(server)
    assert "database system is shut down" in (tmp_path / "postgres" / "server.log").read_text()
    assert not (tmp_path / "stack.json").exists()


async def test_a_killed_keeper_does_not_leave_its_server_behind(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "postgres")
    await server.start()
    assert server.process
    process = psutil.Process(pid_of(server))
    keeper = process.parent()
    assert keeper
    keeper.kill()
    assert await until(lambda: server.process is None, 10)
    await server.stop()
    assert has_ended(process)


async def test_a_busy_backend_that_outlives_its_postmaster_does_not_prevent_a_start(tmp_path: Path) -> None:
    async with PostgresServer(tmp_path / "postgres") as server:
        busy = await asyncpg.connect(server.address)
        backend = psutil.Process(await busy.fetchval("SELECT pg_backend_pid()"))
        before = backend.cpu_times().user
        query = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
        assert await until(lambda: backend.cpu_times().user > before, 10)

        os.kill(pid_of(server), signal.SIGKILL)
        assert await until(lambda: server.process is None, 10)
        assert not has_ended(backend)

        await server.start()
        assert has_ended(backend)
        with pytest.raises(asyncpg.PostgresConnectionError):
            await query
        assert await execute(server.address, "SELECT 1") == 1


def test_it_works_with_uvloop(tmp_path: Path) -> None:
    async def main() -> object:
        async with embedded_stack(tmp_path, kafka=KAFKA_ELSEWHERE) as endpoints:
            return await execute(endpoints.postgres, "SELECT current_database()")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == "dramac"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_can_keep_its_data_where_others_may_not_look() -> None:
    with tempfile.TemporaryDirectory() as private:
        home = Path(private, "postgres")
        async with PostgresServer(home) as server:
            assert psutil.Process(pid_of(server)).uids().real != 0
            assert await execute(server.address, "SELECT 1") == 1
        assert os.stat(private).st_mode & 0o077 == 0


async def test_what_is_given_by_address_is_not_started(tmp_path: Path) -> None:
    given = Endpoints("kafka.example:9092", "postgresql://db.example/dramac")
    async with embedded_stack(tmp_path, kafka=given.kafka, postgres=given.postgres) as endpoints:
        assert endpoints == given
        assert await find_running(tmp_path) == given
    assert not (tmp_path / "kafka").exists()
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"endpoints": {}}'])
async def test_a_broken_state_file_means_that_nothing_runs(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    assert await find_running(tmp_path) is None


@pytest.mark.parametrize("started", [0.0, None], ids=["pid used again", "ports silent"])
async def test_a_stale_state_file_means_that_nothing_runs(tmp_path: Path, started: float | None) -> None:
    me = psutil.Process()
    state = {
        "endpoints": {"kafka": f"127.0.0.1:{free_port()}", "postgres": "postgresql://127.0.0.1:1/dramac"},
        "owner": {"pid": me.pid, "started": me.create_time() if started is None else started},
        "embedded": ["kafka"],
    }
    (tmp_path / "stack.json").write_text(json.dumps(state))
    assert await find_running(tmp_path) is None


async def test_nothing_runs_where_there_is_no_directory(tmp_path: Path) -> None:
    assert await find_running(tmp_path / "none") is None


@pytest.mark.parametrize("server", [KafkaServer, PostgresServer])
async def test_a_taken_port_is_named(tmp_path: Path, server: type[KafkaServer] | type[PostgresServer]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1 is taken: stop"):
            await server(tmp_path / "server", port=port).start()


async def test_a_failed_start_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text("a file where a directory should be")
    stack = Stack(tmp_path)
    with pytest.raises(StackError, match=r"can't write to .*kafka"):
        await stack.start()
    assert stack.postgres
    assert stack.postgres.process is None
    with pytest.raises(StackError, match=r"can't write to .*kafka"):  # not: already running
        await stack.start()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"can't write to the data directory .*file/data.*set DRAMAC_DATA_DIR"):
        await Stack(tmp_path / "file" / "data").start()


async def test_data_of_another_postgres_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("16\n")
    (tmp_path / "password").write_text("secret")
    with pytest.raises(StackError, match="is of Postgres 16, this is Postgres 18: move the directory away"):
        await PostgresServer(tmp_path).start()


async def test_an_end_during_the_start_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"Postgres ended while it started \(.*no_such_setting.*server\.log"):
        await PostgresServer(tmp_path, settings={"no_such_setting": "1"}).start()


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
    assert not answers(port)
    return port
