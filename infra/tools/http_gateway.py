"""Calling the tools of sites: somebody's API over HTTP, on a host that was allowed, at an address that was checked."""

import logging
import ssl
import time
from collections.abc import Callable
from typing import Protocol

import httpcore2
import httpx2

from infra.modules.answers import Answer, read, receive
from infra.secrets import Sealer
from infra.tools.hosts import Hosts
from infra.tools.http_tool import SECRET
from infra.tools.store import StoredTool
from infra.web.connecting import CheckedTransport, Connector
from infra.web.fetching import USER_AGENT
from processors.tools.port import BusyError, ToolError, ToolRequest
from schemas.errors import ConfigurationError
from schemas.ids import SiteId
from schemas.message import Json

logger = logging.getLogger(__name__)


class ToolSource(Protocol):
    """Where a tool's version is found; `infra.tools.store.SiteToolStore` is one."""

    async def find(self, site_id: SiteId, name: str, version: str) -> StoredTool | None:
        """Return that very version, unless the tool was removed."""
        ...


class HttpToolGateway:
    """A `ModuleGateway` for what sites registered. Redirects are not followed; nothing is shared between two calls."""

    def __init__(
        self,
        source: ToolSource,
        sealer: Callable[[], Sealer],
        hosts: Hosts,
        *,
        connector: httpcore2.AsyncNetworkBackend | None = None,
        certificates: ssl.SSLContext | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Call what `source` knows, on `hosts` alone; `sealer` opens secrets, and is asked only where there is one."""
        self._source = source
        self._sealer = sealer
        self._hosts = hosts
        self._connector = connector or Connector(exempt=hosts.exempt)
        self._certificates = certificates
        self._now_s = now_s

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Make one try of the call, under the call's idempotency key.

        Raises:
            ToolError: refused or failed, in words for the model.
            BusyError: no answer that can be read; it may have acted.
        """
        name = request.tool.name
        stored = await self._source.find(request.site_id, name, request.tool.version)
        if stored is None:
            raise ToolError(f"The tool {name} was removed: it can't be called any more.")
        address, body = stored.tool.http.request(request.arguments)
        url = self._hosts.check(address)
        secret = self._secret(stored, url)
        try:
            answer = await self._answer(stored, url, body, secret, request)
        except httpx2.TransportError as error:
            raise BusyError(f"{name} does not answer: {type(error).__name__}") from None
        return read(answer, f"The tool {name}", secret=secret, now_s=self._now_s(), texts=True)

    def _secret(self, stored: StoredTool, url: httpx2.URL) -> bytes | None:
        if stored.sealed is None or not stored.tool.http.needs_secret:
            return None
        name = stored.tool.name
        if url.scheme != "https" and not self._hosts.is_exempt(url):
            raise ToolError(f"The tool {name} can't be called: its secret is sent over https only.")
        try:
            return stored.secret(self._sealer)
        except ConfigurationError as error:
            logger.error("the secret of the tool %s can't be used: %s", name, error)  # noqa: TRY400 - no traceback
            raise ToolError(f"The tool {name} can't be called: its secret can't be read on this system.") from None

    async def _answer(
        self, stored: StoredTool, url: httpx2.URL, body: bytes | None, secret: bytes | None, request: ToolRequest
    ) -> Answer:
        silence_s = request.tool.timeout_s
        headers = httpx2.Headers({"User-Agent": USER_AGENT, "Accept": "application/json, text/*;q=0.9"})
        for name, value in stored.tool.http.headers.items():
            headers[name] = value.replace(SECRET, secret.decode("ascii")) if secret is not None else value
        headers.update(
            {
                **({"Content-Type": "application/json"} if body is not None else {}),
                "Accept-Encoding": "identity",
                "Connection": "close",
                "Idempotency-Key": request.call_id,
                "X-Dramac-Site": request.site_id,
                "X-Dramac-Agent": request.agent_id,
                "X-Dramac-Execution": request.execution_id,
            }
        )
        asked = httpx2.Request(
            stored.tool.http.method,
            url,
            headers=headers,
            content=body,
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), silence_s)},
        )
        async with CheckedTransport(self._connector, self._certificates) as transport:
            response = await transport.handle_async_request(asked)
            try:
                return await receive(response)
            finally:
                await response.aclose()
