"""Connections whose address was checked: a name is looked up once, and what was checked is what is connected to.

`Connector` is the lowest layer that httpcore has, below TLS: whatever a URL looked like above, here is the host that
is really about to be reached. The name stays in the request and in TLS, so certificates are checked as always.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import cache

import httpcore
import httpx

from infra.web.addresses import Exemption, is_public, not_public
from processors.tools.port import ToolError

Resolve = Callable[[str, int], Awaitable[list[str]]]

CONNECT_S = 5.0  # for each address of a host
TRIED_ADDRESSES = 3  # of one host: some have dozens


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, best first, as the system knows them.

    Raises:
        OSError: there are none, or nobody who knows answers.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Connector(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only."""

    def __init__(
        self,
        inner: httpcore.AsyncNetworkBackend | None = None,
        resolve: Resolve = resolve,
        exempt: Iterable[Exemption] = (),
    ) -> None:
        """Connect through `inner`, which is given addresses and never names."""
        self._inner = inner or httpcore.AnyIOBackend()
        self._resolve = resolve
        self._exempt = frozenset(exempt)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look `host` up, check every address, and connect to one of those.

        Raises:
            ToolError: one of the addresses is not public, or there are none; nothing was connected to.
            httpcore.ConnectError: none of them answers.
        """
        addresses = await self.addresses(host, port)
        failure: Exception | None = None
        for address in addresses[:TRIED_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(address, port, min(timeout or CONNECT_S, CONNECT_S))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise httpcore.ConnectError(f"{host} does not answer") from failure

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host`, all of them checked.

        Raises:
            ToolError: one is not public, or there are none.
        """
        plain = host.strip("[]")
        if Exemption(plain, port) in self._exempt:
            return [plain]
        try:
            return [self._checked(str(ipaddress.ip_address(plain)), host)]
        except ValueError:
            pass  # a name
        try:
            found = await self._resolve(plain, port)
        except (OSError, UnicodeError) as error:
            raise ToolError(f"There is no website {host[:200]!r}: its name can't be found.") from error
        if not found:
            raise ToolError(f"There is no website {host[:200]!r}: its name can't be found.")
        # One address that is not public makes all of them suspect: which one is taken is the writer's choice.
        return [self._checked(address, host) for address in found]

    def _checked(self, text: str, host: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError as error:
            raise not_public(host) from error
        if not is_public(address):
            raise not_public(host)
        return str(address)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no website is in a file."""
        raise not_public(path)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@cache
def _certificates() -> ssl.SSLContext:
    """Return whom to trust; no environment variable has a say. Made once: it takes some 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


class CheckedTransport(httpx.AsyncBaseTransport):
    """An httpx transport whose connections are all made by a `Connector`. No proxy, nothing kept open or shared."""

    def __init__(self, connector: httpcore.AsyncNetworkBackend, certificates: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=certificates or _certificates(),
            max_keepalive_connections=0,
            http2=False,
            network_backend=connector,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response, its body still to be read.

        Raises:
            ToolError: the host is not public.
            httpcore's own errors: the exchange failed.
        """
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("the body must be one that is read asynchronously")
        response = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()
