"""`dramac worker`: the working parts of one process, on a Kafka and a Postgres that are there."""

import asyncio
import contextlib
import signal
from typing import Annotated

import typer

from infra.cli.common import err, run
from infra.places import endpoints_of
from infra.settings import Settings
from infra.wiring import ROLES, Role, open_house
from schemas.errors import ConfigurationError

SHUTDOWN_S = 10.0


def worker(
    roles: Annotated[
        str, typer.Option(help=f"Which parts to run, separated by commas: {', '.join(ROLES)}.")
    ] = ",".join(ROLES),
) -> None:
    """Run the working parts until SIGTERM or Ctrl-C."""

    async def work(settings: Settings) -> None:
        wanted = parse_roles(roles)
        async with open_house(settings, await endpoints_of(settings), wanted) as house:
            err().print(f"working as {', '.join(wanted)}")
            parts = asyncio.create_task(house.run())
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, parts.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await parts
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    run(work)


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
