"""Connections whose address was checked: a name is looked up once, and what was checked is what is connected to.

`Connector` is the lowest layer that httpcore2 has, below TLS: whatever a URL looked like above, here is the host that
is really about to be reached. The name stays in the request and in TLS, so certificates are checked as always: by the
authorities that this machine's system trusts.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import httpcore2
import httpx2

from infra.web.addresses import Exemption, is_public, not_public
from processors.tools.port import ToolError

Resolve = Callable[[str, int], Awaitable[list[str]]]

CONNECT_S = 5.0  # for each address of a host
TRIED_ADDRESSES = 3  # of one host: some have dozens

# Whatever ends an exchange; each has its like in httpx2, by the same name.
FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, best first, as the system knows them.

    Raises:
        OSError: there are none, or nobody who knows answers.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Connector(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses only."""

    def __init__(
        self,
        inner: httpcore2.AsyncNetworkBackend | None = None,
        resolve: Resolve = resolve,
        exempt: Iterable[Exemption] = (),
    ) -> None:
        """Connect through `inner`, which is given addresses and never names."""
        self._inner = inner or httpcore2.AnyIOBackend()
        self._resolve = resolve
        self._exempt = frozenset(exempt)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look `host` up, check every address, and connect to one of those.

        Raises:
            ToolError: one of the addresses is not public, or there are none; nothing was connected to.
            httpcore2.ConnectError: none of them answers.
        """
        addresses = await self.addresses(host, port)
        failure: Exception | None = None
        for address in addresses[:TRIED_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(address, port, min(timeout or CONNECT_S, CONNECT_S))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise httpcore2.ConnectError(f"{host} does not answer") from failure

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
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: no website is in a file."""
        raise not_public(path)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@cache
def system_certificates() -> ssl.SSLContext:
    """Return whom to trust: whom this machine's system does, whatever the environment says.

    Made once: it takes some 50 ms.
    """
    return httpx2.create_ssl_context(trust_env=False)


class CheckedTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport whose connections are all made by a `Connector`. No proxy, nothing shared with another."""

    def __init__(
        self,
        connector: httpcore2.AsyncNetworkBackend,
        certificates: ssl.SSLContext | None = None,
        *,
        most_bytes: int | None = None,
    ) -> None:
        """Connect through `connector`; a body of more than `most_bytes` ends there, with an error."""
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=certificates or system_certificates(), http2=False, network_backend=connector
        )
        self._most_bytes = most_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and return its response, its body still to be read.

        Raises:
            ToolError: the host is not public; nothing was sent.
            httpx2.TransportError: the exchange failed; reading the body may raise it too.
        """
        if not isinstance(request.stream, httpx2.AsyncByteStream):
            raise TypeError("the body must be one that is read asynchronously")
        asked = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _told_by_httpx2():
            response = await self._pool.handle_async_request(asked)
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response, self._most_bytes))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response, most_bytes: int | None) -> None:
        self._response = response
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        with _told_by_httpx2():
            async for chunk in self._response.aiter_stream():
                received += len(chunk)
                if self._most_bytes is not None and received > self._most_bytes:
                    raise httpx2.ReadError(f"the answer has more than {self._most_bytes} bytes")
                yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


@contextmanager
def _told_by_httpx2() -> Iterator[None]:
    """Raise httpcore2's errors as those that httpx2 and the libraries above it know: by the same names."""
    try:
        yield
    except FAILURES as error:
        told: type[httpx2.TransportError] = getattr(httpx2, type(error).__name__, httpx2.TransportError)
        raise told(str(error) or type(error).__name__) from error
