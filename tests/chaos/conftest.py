"""A system of one's own for each test process: its servers are not shared, since tests may kill them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.rig import Rig, open_rig


@pytest_asyncio.fixture(scope="session")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path_factory.mktemp("chaos") / "rig") as made:
        yield made
