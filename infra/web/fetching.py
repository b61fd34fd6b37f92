"""Fetching a page of the public web: a few redirects, each checked anew, within bounds of size and time."""

import asyncio
import codecs
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

from infra.web.addresses import Exemption, checked_url
from infra.web.connecting import CheckedTransport, Connector
from processors.tools.port import ToolError

FETCH_S = 20.0  # everything: names, connections, redirects, the body
SILENCE_S = 10.0  # between two pieces of an answer
REDIRECTS = 5
WIRE_BYTES = 2 * 1024 * 1024  # of a body as it is sent
BODY_BYTES = 4 * 1024 * 1024  # of a body as it is meant: a compressed one can be a thousand times what was sent
USER_AGENT = "dramac-agents"

_REDIRECT = frozenset({301, 302, 303, 307, 308})
_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_TEXTS = frozenset({"application/json", "application/xml", "application/javascript", "application/yaml"})
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
# Codecs by which a page may say it is written; Python has others, which are not for pages.
_CODECS = re.compile(
    r"utf-8|utf-16(-le|-be)?|iso8859-\d+|cp(125\d|866|874|932|949|950)|koi8-[ru]|gb2312|gbk|gb18030|big5(hkscs)?"
    r"|euc_jp|euc_kr|shift_jis|iso2022_jp|mac-roman|tis-620"
)


@dataclass(frozen=True, slots=True)
class Page:
    """What was found. `cut`: the body was longer, and only its beginning was read."""

    url: str
    status: int
    content_type: str
    text: str
    cut: bool = False

    @property
    def is_html(self) -> bool:
        """Whether the text is HTML."""
        return self.content_type in _PAGES


class WebFetcher:
    """Fetches pages. Nothing is shared between two fetches: no cookies, no connections, no names looked up."""

    def __init__(
        self,
        connector: Connector | None = None,
        exempt: Iterable[Exemption] = (),
        timeout_s: float = FETCH_S,
        certificates: ssl.SSLContext | None = None,
    ) -> None:
        """Fetch through `connector`.

        Args:
            connector: Makes the connections; by default one to public addresses and to those of `exempt`.
            exempt: Further hosts and ports whose URLs are let through.
            timeout_s: For all of one fetch.
            certificates: Whom to trust; by default the authorities that this machine's system trusts.
        """
        self._exempt = frozenset(exempt)
        self._certificates = certificates
        self._connector = connector or Connector(exempt=self._exempt)
        self._timeout_s = timeout_s

    async def get(self, url: str) -> Page:
        """Return the page at `url`, after redirects.

        Raises:
            ToolError: it may not or can't be read; in words for the model.
        """
        target = checked_url(url, self._exempt)
        async with self._bounded(url):
            for _ in range(REDIRECTS + 1):
                async with self._answer("GET", target) as response:
                    if response.status_code not in _REDIRECT or "location" not in response.headers:
                        return await _page(response, str(target))
                    target = self._next(target, response.headers["location"])
        raise ToolError(f"{_shown(url)} redirects more than {REDIRECTS} times.")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Page:
        """Return the answer to `body`; redirects are not followed, since `headers` may hold what is for `url` alone.

        Raises:
            ToolError: there is none that can be read.
        """
        target = checked_url(url, self._exempt)
        async with self._bounded(url), self._answer("POST", target, headers, body) as response:
            return await _page(response, url)

    def _next(self, target: httpx2.URL, location: str) -> httpx2.URL:
        try:
            joined = str(target.join(location))
        except (httpx2.InvalidURL, ValueError) as error:
            raise ToolError(f"{_shown(str(target))} redirects to something that is not a URL.") from error
        return checked_url(joined, self._exempt)

    @asynccontextmanager
    async def _bounded(self, url: str) -> AsyncIterator[None]:
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                yield
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise ToolError(f"{_shown(url)} took longer than {self._timeout_s:g} s.", retryable=True) from error
        except (httpx2.ProtocolError, httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.DecodingError) as error:
            raise ToolError(f"{_shown(url)} answered something that can't be read.") from error
        except httpx2.TransportError as error:
            raise ToolError(f"{_shown(url)} can't be reached at the moment.", retryable=True) from error

    @asynccontextmanager
    async def _answer(
        self, method: str, url: httpx2.URL, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> AsyncIterator[httpx2.Response]:
        request = httpx2.Request(
            method,
            url,
            headers={
                "User-Agent": USER_AGENT,
                "Accept": "text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1",
                "Accept-Encoding": "gzip, deflate",
                "Connection": "close",
                **(headers or {}),
            },
            content=body,
            extensions={"timeout": {"connect": SILENCE_S, "read": SILENCE_S, "write": SILENCE_S, "pool": SILENCE_S}},
        )
        async with CheckedTransport(self._connector, self._certificates) as transport:
            response = await transport.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()


async def _page(response: httpx2.Response, url: str) -> Page:
    if response.status_code >= 400:
        passing = response.status_code in (429, 502, 503, 504)
        raise ToolError(f"{_shown(url)} answered with status {response.status_code}.", retryable=passing)
    kind, _, parameters = response.headers.get("content-type", "text/plain").partition(";")
    kind = kind.strip().lower()
    if not (kind.startswith("text/") or kind in _PAGES | _TEXTS or kind.endswith(("+json", "+xml"))):
        raise ToolError(f"{_shown(url)} is of the type {_shown(kind)}: only text can be read.")
    body, cut = await _body(response, url)
    text = body.decode(_codec(parameters, body), "replace")
    return Page(url, response.status_code, kind, text.removeprefix("\ufeff"), cut)


async def _body(response: httpx2.Response, url: str) -> tuple[bytes, bool]:
    """Return as much of the body as we take, and whether there was more: never more than that is held."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    unpack = _unpacker(encoding, url)
    body, received = bytearray(), 0
    try:
        async for chunk in response.stream:  # type: ignore[union-attr]  # our transport's is asynchronous
            received += len(chunk)
            body += unpack(chunk, BODY_BYTES + 1 - len(body))
            if received > WIRE_BYTES or len(body) > BODY_BYTES:
                return bytes(body[:BODY_BYTES]), True
    except zlib.error as error:
        raise ToolError(f"{_shown(url)} answered something that can't be unpacked.") from error
    return bytes(body), False


class _Inflate:
    """Unpacks gzip or deflate, at most as many bytes at a time as are wanted."""

    def __init__(self, window: int) -> None:
        self._machine = zlib.decompressobj(window)

    def __call__(self, chunk: bytes, most: int) -> bytes:
        if self._machine.eof or most <= 0:
            return b""
        # What does not fit is left in the machine; the caller stops there.
        return self._machine.decompress(self._machine.unconsumed_tail + chunk, most)


def _plain(chunk: bytes, most: int) -> bytes:
    return chunk[: max(most, 0)]


def _unpacker(encoding: str, url: str) -> Callable[[bytes, int], bytes]:
    match encoding:
        case "identity" | "":
            return _plain
        case "gzip" | "x-gzip":
            return _Inflate(16 + zlib.MAX_WBITS)
        case "deflate":
            return _Inflate(zlib.MAX_WBITS)
        case _:
            raise ToolError(f"{_shown(url)} is packed as {_shown(encoding)}, which can't be read.")


def _codec(parameters: str, body: bytes) -> str:
    """Return how the body is written: as its header says, else as the page itself does, else UTF-8."""
    named = re.search(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", parameters, re.IGNORECASE)
    if body.startswith(codecs.BOM_UTF8):
        return "utf-8"
    found = _CHARSET.search(body, 0, 2_048)
    label = named[1] if named else found[1].decode("ascii") if found else "utf-8"
    try:
        codec = codecs.lookup(label).name
    except (LookupError, ValueError):
        return "utf-8"
    if codec in ("ascii", "iso8859-1"):
        return "cp1252"  # as browsers do
    return codec if _CODECS.fullmatch(codec) else "utf-8"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")
