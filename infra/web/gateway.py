"""The web tools: reading a page, and searching through a search service."""

import asyncio
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import SecretStr

from infra.web.fetching import Page, WebFetcher
from processors.tools.port import ToolError, ToolRequest
from schemas.message import Json, JsonObject

MODULE = "web"
TEXT_CHARS = 20_000  # of a page: much of a model's window, and below what a result may hold in any script
EXTRACT_S = 8.0  # of clock; of CPU it has less
EXTRACTIONS = 4  # at once: each is a process
EXTRACTOR = Path(__file__).with_name("extracting.py")
SELECTOR_CHARS = 200
SNIPPET_CHARS = 500
RESULTS = 20
# `:has`, `:contains` and the like make a selector's time depend on the page more than linearly.
_SELECTOR = re.compile(r"[A-Za-z0-9_\-.#*>+~,\s\[\]=\"'^$|]+")


@dataclass(frozen=True, slots=True)
class SearchService:
    """A search service that speaks Serper's protocol: a POST of `{"q", "num"}`, an answer with `organic`."""

    url: str
    key: SecretStr


class WebGateway:
    """A `ModuleGateway` for tools that read the public web."""

    def __init__(self, fetcher: WebFetcher, search: SearchService | None = None) -> None:
        self._fetcher = fetcher
        self._search = search
        self._extracting = asyncio.Semaphore(EXTRACTIONS)

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Read or search; nothing out there is changed.

        Raises:
            ToolError: refused or failed, in words for the model.
        """
        match module, action:
            case "web", "scrape":
                return await self._scrape(request.arguments["url"], request.arguments.get("selector"))
            case "web", "search":
                return await self._found(request.arguments["query"], request.arguments.get("num_results", 5))
            case _:
                raise ToolError(f"The web tools can't do {action} for {module}.")

    async def _scrape(self, url: str, selector: str | None) -> JsonObject:
        if selector is not None and (len(selector) > SELECTOR_CHARS or not _SELECTOR.fullmatch(selector)):
            raise ToolError("The selector can't be used: give a plain CSS selector, such as 'main p' or '#prices'.")
        page = await self._fetcher.get(url)
        if page.is_html:
            async with self._extracting:
                found = await extract(page, selector)
        elif selector is not None:
            raise ToolError(f"A selector is for HTML, and this page is {page.content_type}: leave it out.")
        else:
            found = {"text": page.text}
        text = found["text"]
        cut = page.cut or len(text) > TEXT_CHARS
        return {
            "url": page.url,
            "status": page.status,
            "content_type": page.content_type,
            **found,
            "text": text[:TEXT_CHARS],
            "cut": cut,
        }

    async def _found(self, query: str, count: int) -> JsonObject:
        if self._search is None:
            raise ToolError("Searching the web is not set up on this system.")
        key = self._search.key.get_secret_value()
        body = orjson.dumps({"q": query, "num": min(count, RESULTS)})
        headers = {"X-API-KEY": key, "Content-Type": "application/json"}
        try:
            page = await self._fetcher.post(self._search.url, headers, body)
        except ToolError as error:  # its words name the service's address, which is nothing for a model
            raise ToolError("The search service did not answer.", retryable=error.retryable) from error
        return {"query": query, "results": _results(page.text, min(count, RESULTS))}


def _results(text: str, count: int) -> list[JsonObject]:
    try:
        answer = orjson.loads(text)
        entries = answer.get("organic", [])
        found = [entry for entry in entries if isinstance(entry, dict)]
    except (ValueError, AttributeError, TypeError) as error:
        raise ToolError("The search service answered something that can't be read.") from error
    names = (("title", "title"), ("url", "link"), ("snippet", "snippet"))
    return [{ours: str(entry.get(theirs, ""))[:SNIPPET_CHARS] for ours, theirs in names} for entry in found[:count]]


async def extract(page: Page, selector: str | None = None, timeout_s: float = EXTRACT_S) -> JsonObject:
    """Return the title and text of an HTML page.

    Raises:
        ToolError: the selector is wrong, or the page takes too long to be read.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(EXTRACTOR),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    asked = orjson.dumps({"html": page.text, "selector": selector})
    try:
        async with asyncio.timeout(timeout_s):
            answer, _ = await process.communicate(asked)
    except TimeoutError:
        answer = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found: JsonObject = orjson.loads(answer)
    except ValueError as error:
        raise ToolError("The page can't be read: it is too large or not proper HTML.") from error
    if "problem" in found:
        raise ToolError("The selector can't be used: give a plain CSS selector, such as 'main p' or '#prices'.")
    return found
