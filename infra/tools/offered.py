"""What sites registered, as runs see it: looked up when a run begins, and kept for a moment."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from schemas.catalogue import ToolDefinition
from schemas.ids import SiteId

FRESH_S = 1.0  # a tool that was added or removed is so for every run that begins later than this
SITES_KEPT = 10_000

Look = Callable[[SiteId], Awaitable[Sequence[ToolDefinition]]]


class OfferedTools:
    """The definitions of a site's own tools, asked of each of `looks` at most once within `FRESH_S`."""

    def __init__(self, looks: Sequence[Look], *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._looks = tuple(looks)
        self._now_s = now_s
        self._kept: OrderedDict[SiteId, tuple[float, asyncio.Task[tuple[ToolDefinition, ...]]]] = OrderedDict()

    async def tools(self, site_id: SiteId) -> tuple[ToolDefinition, ...]:
        """Return the site's own tools.

        Raises:
            UnavailableError: they can't be looked up now.
        """
        kept = self._kept.get(site_id)
        if kept is None or self._now_s() >= kept[0] or (kept[1].done() and _failed(kept[1])):
            task = asyncio.get_running_loop().create_task(self._look(site_id))
            kept = self._kept[site_id] = (self._now_s() + FRESH_S, task)
            self._kept.move_to_end(site_id)
            if len(self._kept) > SITES_KEPT:
                self._kept.popitem(last=False)
        return await asyncio.shield(kept[1])  # one run that ends must not take the answer from the others

    async def _look(self, site_id: SiteId) -> tuple[ToolDefinition, ...]:
        found: list[ToolDefinition] = []
        for look in self._looks:
            found += await look(site_id)
        return tuple(found)


def _failed(task: asyncio.Task[tuple[ToolDefinition, ...]]) -> bool:
    return task.cancelled() or task.exception() is not None
