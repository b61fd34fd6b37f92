"""Who answers a site's questions: its own provider of that name, else the platform's; each at its own pace.

A site's provider is looked up again every few seconds, so that a new key is used and a removed one forgotten. Each
site's own has a breaker of its own: a site with a wrong key stops nobody else.
"""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from infra.live import LiveModel, LivePublisher
from infra.models.addresses import ProviderAddress
from infra.models.endpoints import check_endpoint
from infra.models.store import SiteProvider
from infra.secrets import Sealer
from processors.models.call import ModelPorts
from processors.models.decisions import DecisionModel
from processors.models.pacing import Pace
from processors.models.port import ModelPort, ModelReply, ModelRequest
from schemas.errors import ConfigurationError, ModelError, UnavailableError
from schemas.ids import SiteId

logger = logging.getLogger(__name__)

KNOWN_FOR_S = 15.0  # how long what was looked up is believed
STALE_FOR_S = 600.0  # and how long where Postgres does not answer
KEPT = 1_000  # sites' providers that are kept open; and paces
BYTES_A_TOKEN = 4  # of what a question may take, for its pace alone

Key = tuple[SiteId, str]


class Providers(Protocol):
    """Looks up sites' own providers."""

    async def find(self, site_id: SiteId, name: str) -> SiteProvider | None:
        """Return a site's provider, if it has one of that name.

        Raises:
            UnavailableError: not now.
        """
        ...


@dataclass(slots=True)
class _Entry:
    """What was found. `users` are asking it now: it is closed when the last has left."""

    found: SiteProvider | None
    ports: ModelPorts | None
    close: Callable[[], Awaitable[None]] | None
    looked_s: float
    users: int = 0
    replaced: bool = False


class SiteModels:
    """A `ModelPort` for all sites."""

    def __init__(
        self,
        platform: ModelPort,
        defaults: Mapping[str, ProviderAddress],
        providers: Providers,
        sealer: Callable[[], Sealer],
        allowed: tuple[str, ...],
        *,
        live: LivePublisher | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask `platform` where a site has none of its own. `sealer` is made when the first key is to be opened."""
        self._platform, self._defaults, self._providers = platform, defaults, providers
        self._sealer, self._allowed, self._live, self._now_s = sealer, allowed, live, now_s
        self._entries: dict[Key, _Entry] = {}
        self._paces: dict[tuple[Key, int | None, int | None], Pace] = {}

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Let the site's provider answer.

        Raises:
            ModelError: as the adapter says; `unavailable` if nobody knows which provider it is; `auth` if its key
                does not open.
        """
        async with self._entry((request.site_id, request.provider)) as entry:
            port: ModelPort = entry.ports or self._platform
            pace = self._pace(request, entry.found)
            if pace is None:
                return await port.complete(request)
            reserved = _tokens_of(request)
            await pace.enter(reserved)
            used = 0
            try:
                reply = await port.complete(request)
                used = reply.usage.input_tokens + reply.usage.output_tokens if reply.settled else reserved
            except ModelError as error:
                spent = error.spent
                used = spent.input_tokens + spent.output_tokens if spent is not None else reserved * error.unsettled
                raise
            finally:
                pace.settle(reserved, used)
            return reply

    async def aclose(self) -> None:
        """Close all connections of sites' own providers."""
        for key in list(self._entries):
            await self._drop(key, force=True)

    # --- which provider ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _entry(self, key: Key) -> AsyncIterator[_Entry]:
        entry = await self._current(key)
        entry.users += 1
        try:
            yield entry
        finally:
            entry.users -= 1
            if entry.replaced and entry.users == 0:
                await _close(entry)

    async def _current(self, key: Key) -> _Entry:
        entry, now_s = self._entries.get(key), self._now_s()
        if entry is not None and now_s - entry.looked_s < KNOWN_FOR_S:
            return entry
        try:
            found = await self._providers.find(*key)
        except UnavailableError as error:
            if entry is not None and now_s - entry.looked_s < STALE_FOR_S:
                return entry
            raise ModelError(
                f"it can't be looked up who serves {key[1]!r:.60}: Postgres does not answer",
                reason="unavailable",
                retryable=True,
            ) from error
        entry = self._entries.get(key)  # somebody else may have looked meanwhile
        if entry is not None and entry.found == found:
            entry.looked_s = now_s
            return entry
        fresh = self._make(found, now_s)
        await self._drop(key)
        while len(self._entries) >= KEPT:
            await self._drop(next(iter(self._entries)))
        self._entries[key] = fresh
        return fresh

    def _make(self, found: SiteProvider | None, now_s: float) -> _Entry:
        if found is None:
            return _Entry(None, None, None, now_s)
        try:
            check_endpoint(found.url, self._allowed)  # what was allowed once need not be now
            key = "" if found.sealed is None else self._sealer().open(found.sealed, found.context).decode()
            # The providers' clients take a second to import: only who has one waits for them.
            from infra.models.providers import ProviderConfig, make_provider

            provider = make_provider(ProviderConfig(found.name, found.api, key, found.url, tools=found.tools))
        except ConfigurationError as error:
            logger.warning("the provider %r of site %s can't be used: %s", found.name, found.site_id, error)
            raise ModelError(
                f"the site's own provider {found.name!r} can't be used: set it again", reason="auth", retryable=False
            ) from None
        port: ModelPort = provider if found.tools else DecisionModel(provider)
        if self._live is not None and found.tools and found.url is None:  # others may not tell then what was spent
            port = LiveModel(provider, self._live)
        return _Entry(found, ModelPorts({found.name: port}), provider.aclose, now_s)

    async def _drop(self, key: Key, *, force: bool = False) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.replaced = True
            if entry.users == 0 or force:
                await _close(entry)

    # --- pace -------------------------------------------------------------------------------------------------------

    def _pace(self, request: ModelRequest, found: SiteProvider | None) -> Pace | None:
        limits = found or self._defaults.get(request.provider)
        if limits is None or (limits.requests_per_minute is None and limits.tokens_per_minute is None):
            return None
        key = ((request.site_id, request.provider), limits.requests_per_minute, limits.tokens_per_minute)
        if (pace := self._paces.get(key)) is None:
            while len(self._paces) >= KEPT:
                del self._paces[next(iter(self._paces))]
            pace = self._paces[key] = Pace(limits.requests_per_minute, limits.tokens_per_minute)
        return pace


def _tokens_of(request: ModelRequest) -> int:
    size = sum(len(message.content) for message in request.messages) + sum(len(tool.encode()) for tool in request.tools)
    return size // BYTES_A_TOKEN + (request.max_tokens or 0)


async def _close(entry: _Entry) -> None:
    if entry.close is not None:
        closing, entry.close = entry.close, None
        with contextlib.suppress(OSError):
            await closing()
