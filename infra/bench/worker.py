"""The worker under load, as a process of its own: `python -m infra.bench.worker`."""

import asyncio
import contextlib
import signal
import sys

import uvloop

from infra.bench.stubs import StubContext, StubModel, StubTools
from infra.logs import configure_logging
from infra.settings import load_settings
from infra.tuning import tune_collector
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from streams.kafka import KafkaLog


async def main() -> None:
    """Decide until SIGTERM."""
    settings = load_settings()
    configure_logging(settings.log_level)
    tune_collector()
    async with KafkaLog(settings.kafka or "", client_id="dramac-bench") as log:
        process = Process(log=log, models=StubModel(), tools=StubTools(), context=StubContext())
        work = asyncio.create_task(Worker(process).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        sys.stdout.write("working\n")
        sys.stdout.flush()
        with contextlib.suppress(asyncio.CancelledError):
            await work


if __name__ == "__main__":
    uvloop.run(main())
