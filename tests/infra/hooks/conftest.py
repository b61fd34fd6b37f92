"""A database for the hooks of each module, and a place for each test."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from infra.hooks.intake import Intake
from infra.hooks.store import HookStore
from infra.http.app import create_app
from infra.http.hooks import hooks_router
from projections.db import Pool
from tests.databases import own_pool
from tests.infra.hooks.places import SEALER, Place
from tests.infra.served import served
from tests.processors.fakes import new_log


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    """A database of this module's own."""
    async with own_pool(postgres_url, "hooks", size=12) as opened:
        await asyncio.gather(*(HookStore(opened).open() for _ in range(8)))
        yield opened


@pytest_asyncio.fixture
async def place(pool: Pool) -> AsyncIterator[Place]:
    clock: list[Callable[[], float]] = [time.time]
    store, log = HookStore(pool), await new_log()
    intake = Intake(store, SEALER, log, now_s=lambda: clock[0]())
    async with served(create_app([hooks_router(intake)])) as client:
        made = Place(client, store, log, intake)
        clock[0] = made.now_s
        yield made
