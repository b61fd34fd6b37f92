"""Bounds of a fetch: size, time, redirects, types; and how bytes become text."""

import asyncio
import gzip
import zlib

import httpcore2
import pytest

from infra.web import fetching
from infra.web.addresses import Exemption
from infra.web.connecting import Connector
from infra.web.fetching import BODY_BYTES, WIRE_BYTES, Page, WebFetcher
from processors.tools.port import ToolError
from tests.infra.web.wires import PUBLIC, Names, Wires, answer, redirect, serving

URL = "http://example.com/"


async def page(*answers: bytes, url: str = URL) -> Page:
    return await WebFetcher(Connector(Wires(*answers), Names({"example.com": [[PUBLIC]]}))).get(url)


async def refusal(*answers: bytes) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await page(*answers)
    return caught.value


async def test_a_page_is_read_after_its_redirects() -> None:
    found = await page(redirect("/a"), redirect("b?c"), answer("there", Content_Type="text/plain"))
    assert found == Page("http://example.com/b?c", 200, "text/plain", "there")


async def test_redirects_without_end_are_refused() -> None:
    assert "redirects more than 5 times" in str(await refusal(*[redirect("/")] * 6))


async def test_nothing_that_a_page_sets_is_sent_to_the_next() -> None:
    seen: list[bytes] = []

    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        there = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        writer.write(there if len(seen) == 1 else answer("ok"))

    async with serving(serve) as port:
        found = await local(port).get(f"http://127.0.0.1:{port}/first")
    assert (found.text, len(seen)) == ("ok", 2)
    assert b"cookie" not in seen[1].lower()
    assert b"authorization" not in seen[1].lower()


def local(port: int, timeout_s: float = 20.0) -> WebFetcher:
    return WebFetcher(exempt=[Exemption("127.0.0.1", port)], timeout_s=timeout_s)


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert (await page(answer("direct"))).text == "direct"


@pytest.mark.parametrize("size", [BODY_BYTES + 1, 20 * BODY_BYTES])
async def test_a_long_page_is_cut_and_says_so(size: int) -> None:
    found = await page(answer(gzip.compress(b"a" * size), Content_Encoding="gzip"))
    assert (len(found.text), found.cut) == (BODY_BYTES, True)


async def test_a_page_at_the_limit_is_whole() -> None:
    found = await page(answer(gzip.compress(b"a" * BODY_BYTES), Content_Encoding="gzip"))
    assert (len(found.text), found.cut) == (BODY_BYTES, False)


async def test_a_bomb_is_never_unpacked_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    whole = fetching._Inflate.__call__

    def watched(self: fetching._Inflate, chunk: bytes, most: int) -> bytes:
        nonlocal largest
        given = whole(self, chunk, most)
        largest = max(largest, len(given))
        return given

    monkeypatch.setattr(fetching._Inflate, "__call__", watched)
    found = await page(answer(gzip.compress(bytes(300 * 1024 * 1024), 1), Content_Encoding="gzip"))
    assert found.cut
    assert largest <= BODY_BYTES + 1


async def test_a_body_that_never_ends_is_cut_by_what_was_sent() -> None:
    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with serving(serve) as port:
        found = await local(port).get(f"http://127.0.0.1:{port}/")
    assert found.cut
    assert WIRE_BYTES < len(found.text) < 2 * WIRE_BYTES


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", answer("", Content_Length="10") + b"a"])
async def test_a_server_that_hangs_is_given_up(begin: bytes) -> None:
    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        await asyncio.Event().wait()

    async with serving(serve) as port:
        with pytest.raises(ToolError, match=r"took longer than 0\.3 s") as caught:
            await local(port, 0.3).get(f"http://127.0.0.1:{port}/")
    assert caught.value.retryable


async def test_a_name_that_is_never_resolved_is_given_up() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(ToolError, match="took longer"):
        await WebFetcher(Connector(Wires(), never), timeout_s=0.05).get(URL)


async def test_a_name_that_does_not_exist_is_told() -> None:
    with pytest.raises(ToolError, match=r"There is no website 'nowhere\.example'"):
        await page(url="http://nowhere.example/")


async def test_a_server_that_refuses_or_breaks_off_is_told() -> None:
    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer("", Content_Length="10") + b"half")

    async with serving(serve) as port:
        with pytest.raises(ToolError, match="can't be read"):
            await local(port).get(f"http://127.0.0.1:{port}/")
    with pytest.raises(ToolError, match="can't be reached") as caught:
        await local(port).get(f"http://127.0.0.1:{port}/")
    assert caught.value.retryable


@pytest.mark.parametrize(
    "raw", [b"", b"\0\xff\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200\r\n" + b"a" * 200_000]
)
async def test_what_is_not_http_is_told(raw: bytes) -> None:
    await refusal(raw)


async def test_a_failure_names_its_status() -> None:
    assert "answered with status 404" in str(await refusal(answer("no", "404 Not Found")))
    assert not (await refusal(answer("no", "404 Not Found"))).retryable
    assert (await refusal(answer("later", "503 Busy"))).retryable


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/pdf", "video/mp4", "", "x"])
async def test_what_is_not_text_is_refused(kind: str) -> None:
    assert "only text can be read" in str(await refusal(answer("x", Content_Type=kind)))


@pytest.mark.parametrize("packed", ["br", "gzip, gzip", "zstd", "compress"])
async def test_what_is_packed_in_a_way_we_do_not_know_is_refused(packed: str) -> None:
    assert "which can't be read" in str(await refusal(answer("x", Content_Encoding=packed)))


async def test_broken_packing_is_told() -> None:
    assert "can't be unpacked" in str(await refusal(answer("not gzip", Content_Encoding="gzip")))


async def test_deflate_is_unpacked() -> None:
    assert (await page(answer(zlib.compress(b"ok"), Content_Encoding="deflate"))).text == "ok"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("é".encode(), "text/plain", "é"),
        ("é".encode("latin-1"), "text/plain; charset=ISO-8859-1", "é"),
        (b"\x93", "text/plain; charset=latin-1", "“"),
        ("日本".encode("shift_jis"), 'text/html; charset="Shift_JIS"', "日本"),
        (b'<meta charset="iso-8859-2">\xb1', "text/html", '<meta charset="iso-8859-2">ą'),
        (b"\xef\xbb\xbfok", "text/plain; charset=utf-16", "ok"),
        (b"caf\xe9", "text/plain", "caf\ufffd"),
        (b"+ADw-b+AD4-", "text/plain; charset=utf-7", "+ADw-b+AD4-"),
        (b"\\u0041", "text/plain; charset=unicode_escape", "\\u0041"),
        (b"ok", "text/plain; charset=rot13", "ok"),
        (b"ok", "text/plain; charset=nonsense", "ok"),
    ],
)
async def test_bytes_are_read_as_they_were_written(body: bytes, kind: str, text: str) -> None:
    assert (await page(answer(body, Content_Type=kind))).text == text


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    class Flaky(Wires):
        async def connect_tcp(
            self, host: str, port: int, *more: object, **named: object
        ) -> httpcore2.AsyncNetworkStream:
            if host == "8.8.8.8":
                self.connected.append((host, port))
                raise httpcore2.ConnectError("refused")
            return await super().connect_tcp(host, port)

    wires = Flaky(answer("ok"))
    found = await WebFetcher(Connector(wires, Names({"example.com": [["8.8.8.8", PUBLIC]]}))).get(URL)
    assert found.text == "ok"
    assert wires.connected == [("8.8.8.8", 80), (PUBLIC, 80)]
