"""What commands share that need no more than the tables: one connection, and showing one thing of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from rich.console import Console

from infra.cli.common import out, print_json, run
from infra.connections import open_pool
from infra.places import postgres_alone
from infra.settings import Settings
from projections.db import Pool
from schemas.ids import SiteId

Found = TypeVar("Found")


class Store(Protocol):
    """A store with tables of its own."""

    async def open(self) -> None:
        """Create what is missing."""
        ...


OneStore = TypeVar("OneStore", bound=Store)


@asynccontextmanager
async def open_tables(settings: Settings) -> AsyncIterator[Pool]:
    """Open one connection to Postgres; nothing is asked of Kafka.

    Raises:
        UnavailableError: Postgres does not answer, or is nowhere.
        ConfigurationError: the address is wrong, or the tables are of a newer release.
    """
    async with open_pool(await postgres_alone(settings), size=1) as pool:
        yield pool


async def show_one(
    settings: Settings,
    get: Callable[[Pool, SiteId, str], Awaitable[Found]],
    ref: str,
    show: Callable[[Console, Found], None],
    *,
    as_json: bool,
) -> None:
    """Print what `ref` names on the site: for programs, or by `show` for people.

    Raises:
        NotFoundError: it names nothing, or several.
    """
    async with open_tables(settings) as pool:
        found = await get(pool, settings.site_id, ref)
    if as_json:
        print_json(found)
    else:
        show(out(), found)


def run_with_store(make: Callable[[Pool], OneStore], work: Callable[[Settings, OneStore], Awaitable[None]]) -> None:
    """Run a command that needs a store.

    Raises:
        typer.Exit: with the code that fits what happened.
    """

    async def opened(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            store = make(pool)
            await store.open()
            await work(settings, store)

    run(opened)
