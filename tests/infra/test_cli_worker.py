"""`dramac worker` and the signals that end it: a process, with a house that does not want to stop."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0

STUBBORN = textwrap.dedent("""
    import asyncio, contextlib, sys
    from contextlib import asynccontextmanager
    from infra.cli import worker
    from infra.cli.main import app
    from tests.signals import hear_ctrl_c

    class House:
        async def run(self):
            print("working", flush=True)
            for _ in range(3):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
                print("told", flush=True)

    @asynccontextmanager
    async def open_house(*given):
        yield House()

    async def endpoints_of(settings):
        return None

    hear_ctrl_c()
    worker.open_house, worker.endpoints_of, worker.SHUTDOWN_S = open_house, endpoints_of, float(sys.argv[1])
    app(["worker"])
""")


REPLACED = textwrap.dedent("""
    import asyncio, sys
    from contextlib import asynccontextmanager
    from infra.cli import worker
    from infra.cli.main import app
    from processors.runtime.worker import Worker
    from streams.topics import AI_TOPICS, ensure_genesis
    from tests.processors.fakes import new_log, process
    from tests.processors.test_restoring import with_image

    @asynccontextmanager
    async def open_house(*given):
        log = await with_image()
        if sys.argv[1] == "truncated":
            log.truncate("ai.events", 0, 2)
        else:
            log.delete(sys.argv[1])
            log.create(AI_TOPICS, 1)
            await ensure_genesis(log, sys.argv[1])
        yield Worker(process(log))

    async def endpoints_of(settings):
        return None

    worker.open_house, worker.endpoints_of = open_house, endpoints_of
    app(["worker"])
""")


@contextmanager
def stubborn(shutdown_s: float) -> Iterator["subprocess.Popen[str]"]:
    """Have a worker whose parts go on when they are told to stop."""
    command = [sys.executable, "-c", STUBBORN, str(shutdown_s)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "working\n"
            yield worker
        finally:
            worker.kill()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_worker_at_once(first: signal.Signals, second: signal.Signals) -> None:
    with stubborn(60.0) as worker:
        worker.send_signal(first)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "told\n"
        worker.send_signal(second)
        assert worker.wait(PATIENCE_S) == -second


def test_a_worker_that_does_not_stop_in_time_ends_all_the_same_and_says_so() -> None:
    with stubborn(0.2) as worker:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 1
        assert worker.stderr is not None
        assert "did not stop in good order within 0.2 s" in worker.stderr.read()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("ai.events", "error: 'ai.events' partition 0 was deleted and created anew: restore the topic; or, to start"),
        pytest.param(
            "ai.commands",
            "error: 'ai.commands' partition 0 was deleted and created anew: restore the topic; or, to start",
            marks=pytest.mark.slow,
        ),
        ("truncated", "error: 'ai.events' partition 0 begins at offset 2, but is to be kept for ever: restore it"),
    ],
)
def test_on_a_log_that_is_not_the_one_that_was_read_a_worker_ends_with_one_clear_line(what: str, said: str) -> None:
    worker = subprocess.run(
        [sys.executable, "-c", REPLACED, what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert worker.returncode == 1
    assert worker.stdout == ""
    told = [line for line in worker.stderr.splitlines() if not line.startswith("working as ")]
    assert len(told) == 1
    assert told[0].startswith(said)
