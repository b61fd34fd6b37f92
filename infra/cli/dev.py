"""`dramac dev`: everything in the foreground until Ctrl-C."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer

from infra.cli.common import err, out, run
from infra.cli.running import stack_of, working_house
from infra.cli.timeline import line
from infra.dev.progress import terminal_progress
from infra.dev.stack import Endpoints
from infra.settings import Settings
from infra.wiring import House
from schemas.errors import ConfigurationError
from streams.client import subscribe

HINTS = """In another terminal:
  dramac agents apply examples/agents/sdr.yaml --activate
  dramac publish examples/events/contact_created.jsonl
  dramac executions list
Ctrl-C stops everything; the data stays in {data_dir}."""


def dev(quiet: Annotated[bool, typer.Option("--quiet", help="Don't print events as they arrive.")] = False) -> None:
    """Run Kafka, Postgres and all workers here until Ctrl-C."""

    async def work(settings: Settings) -> None:
        async with (
            stack_of(settings, terminal_progress(err())) as endpoints,
            working_house(settings, endpoints) as house,
            _api(settings, house) as told,
        ):
            _greet(settings, endpoints, told)
            await _until_stopped(house, quiet)

    run(work)


@asynccontextmanager
async def _api(settings: Settings, house: House) -> AsyncIterator[str]:
    """Serve the API while the block runs, and yield what to tell of it: a port that is taken stops nothing else."""
    from infra.http.server import listen, open_api, serve, url_of  # FastAPI doubles the time any command takes to start

    async with AsyncExitStack() as stack:
        try:
            listening = stack.enter_context(contextlib.closing(listen(settings.api_host, settings.api_port)))
            app = await stack.enter_async_context(open_api(settings, house.log, house.pool))
        except ConfigurationError as error:
            yield f"none: {error}"
            return
        serving = asyncio.create_task(serve(app, listening))
        try:
            yield url_of(listening)
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


def _greet(settings: Settings, endpoints: Endpoints, api: str) -> None:
    console = out()
    console.print("[bold green]ready[/bold green]")
    console.print(f"  Kafka     {endpoints.kafka}")
    console.print(f"  Postgres  {endpoints.postgres}")
    console.print(f"  API       {api}", markup=False)
    console.print(HINTS.format(data_dir=settings.data_dir), style="dim")


async def _until_stopped(house: House, quiet: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    printing = asyncio.create_task(_print_events(house)) if not quiet else None
    await stopped.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)  # a second one ends it at once
    err().print("stopping")
    if printing is not None:
        printing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await printing


async def _print_events(house: House) -> None:
    console = out()
    async with subscribe(house.log, types="ai.*", start="latest") as events:
        async for envelope in events:
            console.print(line(envelope))
