"""TLS: a pinned address does not weaken the check of the name."""

import asyncio
import ssl

import httpcore2
import pytest
import trustme

from infra.web.connecting import Connector
from infra.web.fetching import WebFetcher
from processors.tools.port import ToolError
from tests.infra.web.wires import PUBLIC, Names, Wires, answer


class Rerouted(Wires):
    """A network in which every address is a port of this machine."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def connect_tcp(self, host: str, port: int, *more: object, **named: object) -> httpcore2.AsyncNetworkStream:
        self.connected.append((host, port))
        return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", self._port)


@pytest.mark.parametrize("named", ["example.com", "other.example.com", "93.184.215.14"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_the_certificate_must_be_that_of_the_name_and_trusted(named: str, trusted: bool) -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(named).configure_cert(server_side)
    client_side = ssl.create_default_context()
    if trusted:
        authority.configure_trust(client_side)
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer("secure"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
    async with server:
        wires = Rerouted(server.sockets[0].getsockname()[1])
        fetcher = WebFetcher(Connector(wires, Names({"example.com": [[PUBLIC]]})), certificates=client_side)
        if named == "example.com" and trusted:
            assert (await fetcher.get("https://example.com/")).text == "secure"
            assert b"host: example.com\r\n" in seen[0].lower()
        else:
            with pytest.raises(ToolError, match="can't be reached"):
                await fetcher.get("https://example.com/")
            assert seen == []
    assert wires.connected == [(PUBLIC, 443)]
