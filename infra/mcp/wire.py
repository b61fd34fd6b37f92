"""The way to MCP servers over HTTP: as for all tools of sites, only to hosts that were named, at checked addresses."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable

import httpcore2
import httpx2

from infra.web.connecting import TRIED_ADDRESSES, Connector
from processors.tools.port import ToolError

ANSWER_BYTES = 4 * 1024 * 1024  # of one answer; a stream of events is one
CONNECT_S = 5.0


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects where a `Connector` lets it."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of the host's addresses, all of which are public.

        Raises:
            httpcore2.ConnectError: one is not, or none answers.
        """
        try:
            addresses = await self._connector.addresses(host, port)
        except ToolError as error:
            raise httpcore2.ConnectError(str(error)) from error
        failure: Exception | None = None
        for address in addresses[:TRIED_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(address, port, min(timeout or CONNECT_S, CONNECT_S))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise httpcore2.ConnectError(f"{host} does not answer") from failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse.

        Raises:
            httpcore2.ConnectError: always.
        """
        raise httpcore2.ConnectError(f"{path} is no server")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class CheckedTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport over such connections, whose answers end after ANSWER_BYTES."""

    def __init__(self, connector: Connector, certificates: ssl.SSLContext | None = None) -> None:
        context = certificates or httpx2.create_ssl_context(trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=CheckedBackend(connector))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and return its response, its body still to be read.

        Raises:
            httpx2.TransportError: the exchange failed.
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
        try:
            response = await self._pool.handle_async_request(asked)
        except FAILURES as error:
            raise httpx2.TransportError(str(error) or type(error).__name__) from error
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._pool.aclose()


FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        try:
            async for chunk in self._response.aiter_stream():
                received += len(chunk)
                if received > ANSWER_BYTES:
                    raise httpx2.ReadError(f"the answer has more than {ANSWER_BYTES} bytes")
                yield chunk
        except FAILURES as error:
            raise httpx2.ReadError(str(error) or type(error).__name__) from error

    async def aclose(self) -> None:
        await self._response.aclose()
