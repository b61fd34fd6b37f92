"""The one transport to hosts that others name: what it says where an exchange fails, and how much it takes."""

from collections.abc import Iterator

import httpcore2
import httpx2
import pytest

from infra.web.connecting import FAILURES, CheckedTransport, Connector
from processors.tools.port import ToolError
from tests.infra.web.wires import PUBLIC, Names, Wires, answer

NAMES = Names({"example.com": [[PUBLIC]], "inside.example.com": [["10.0.0.1"]]})


def kinds(of: type[Exception]) -> Iterator[type[Exception]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


class Failing(Wires):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def connect_tcp(self, *given: object, **named: object) -> httpcore2.AsyncNetworkStream:
        raise self._error


@pytest.mark.parametrize("kind", [kind for failure in FAILURES for kind in kinds(failure)])
async def test_each_failure_is_told_by_its_name_among_the_errors_of_httpx2(kind: type[Exception]) -> None:
    async with CheckedTransport(Failing(kind("it broke"))) as transport:
        with pytest.raises(httpx2.TransportError, match="it broke") as told:
            await transport.handle_async_request(httpx2.Request("GET", "http://example.com/"))
    assert type(told.value).__name__ == kind.__name__


async def test_a_client_over_it_is_told_that_a_host_is_not_public_and_nothing_is_connected_to() -> None:
    wires = Wires(answer("never"))
    async with httpx2.AsyncClient(transport=CheckedTransport(Connector(wires, NAMES)), trust_env=False) as client:
        with pytest.raises(ToolError, match="only public websites"):
            await client.get("http://inside.example.com/")
    assert wires.connected == []


@pytest.mark.parametrize("length", [8, 9])
async def test_a_body_ends_where_it_is_longer_than_it_may_be(length: int) -> None:
    transport = CheckedTransport(Connector(Wires(answer("x" * length)), NAMES), most_bytes=8)
    async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
        if length == 8:
            assert (await client.get("http://example.com/")).text == "x" * 8
        else:
            with pytest.raises(httpx2.ReadError, match="more than 8 bytes"):
                await client.get("http://example.com/")


async def test_a_connection_that_breaks_off_within_a_body_is_told_as_one_error() -> None:
    cut = answer("x" * 20).removesuffix(b"x" * 10)
    async with httpx2.AsyncClient(transport=CheckedTransport(Connector(Wires(cut), NAMES)), trust_env=False) as client:
        with pytest.raises(httpx2.RemoteProtocolError, match="without sending complete message"):
            await client.get("http://example.com/")
