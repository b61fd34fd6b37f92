"""`dramac worker`: the working parts of one process, on a Kafka and a Postgres that are there."""

import asyncio
import contextlib
import os
import signal
from typing import Annotated

import typer

from infra.cli.common import FAILED, err, run
from infra.places import endpoints_of
from infra.settings import Settings
from infra.tuning import tune_collector
from infra.wiring import ROLES, Role, open_house
from schemas.errors import ConfigurationError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHUTDOWN_S = 9.5  # an orderly end takes milliseconds; supervisors often kill after 10 s


def worker(
    roles: Annotated[
        str, typer.Option(help=f"Which parts to run, separated by commas: {', '.join(ROLES)}.")
    ] = ",".join(ROLES),
) -> None:
    """Run the working parts until SIGTERM or Ctrl-C."""

    async def work(settings: Settings) -> None:
        wanted = parse_roles(roles)
        tune_collector()
        async with open_house(settings, await endpoints_of(settings), wanted) as house:
            err().print(f"working as {', '.join(wanted)}")
            parts = asyncio.create_task(house.run())
            stop_by_signal(parts)
            with contextlib.suppress(asyncio.CancelledError):
                await parts

    run(work)


def stop_by_signal(parts: "asyncio.Task[None]") -> None:
    """Stop in good order at the first signal; a second one, or SHUTDOWN_S, cuts it: who comes next restores anyway."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        err().print("stopping")
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        loop.call_later(SHUTDOWN_S, _cut)
        parts.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)


def _cut() -> None:
    err().print(f"did not stop in good order within {SHUTDOWN_S:g} s")
    os._exit(FAILED)


def parse_roles(text: str) -> tuple[Role, ...]:
    """Return the roles that `text` names.

    Raises:
        ConfigurationError: one is none of ours.
    """
    named = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in named if name not in ROLES]
    if wrong or not named:
        said = f"there is no role {wrong[0]!r}" if wrong else "name at least one role"
        raise ConfigurationError(f"{said}: --roles takes {', '.join(ROLES)}, separated by commas")
    return tuple(role for role in ROLES if role in named)
