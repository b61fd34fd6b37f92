"""Posting what is signed to an address of the settings."""

from types import TracebackType
from typing import Self

import httpx2


class Posting:
    """A client without proxies and redirects: what is signed goes where the settings say, and nowhere else.

    An async context manager.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport | None) -> None:
        """Connect to nothing yet."""
        self._client = httpx2.AsyncClient(trust_env=False, follow_redirects=False, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._client.aclose()
