"""The shop's counter: its tools over HTTP, a shop of its own for every run, and each key carried out once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import orjson

from tests.infra.web.wires import answer, serving
from tests.taubench.shop import READS, RefusedError, Shop

Served = Callable[[str, bool], Awaitable[None]]  # told of the tool, and whether it changed something, before the answer


async def _nothing(tool: str, changed: bool) -> None:
    return


@dataclass
class Counters:
    """What was asked and done. `applied` counts for each key how often something was changed under it."""

    served: Served = _nothing
    shops: dict[str, Shop] = field(default_factory=dict)
    applied: Counter[str] = field(default_factory=Counter)
    answers: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    asked: int = 0
    repeated: int = 0

    def shop(self, execution_id: str) -> Shop:
        """The shop of one run."""
        return self.shops.setdefault(execution_id, Shop())

    async def __call__(self, raw: bytes, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        target = urlsplit(line.split(" ")[1])
        tool, key = target.path.removeprefix("/"), headers["idempotency-key"]
        arguments = orjson.loads(body) if body else dict(parse_qsl(target.query, keep_blank_values=True))
        self.asked += 1
        if key in self.answers:
            self.repeated += 1
            asked, told = self.answers[key]
            writer.write(told if asked == raw.splitlines()[0] + body else answer("", "409 Conflict"))
            return
        changed = False
        try:
            said = getattr(self.shop(headers["x-dramac-execution"]), tool)(**arguments)
            told = answer(said, Content_Type="text/plain")
            if changed := tool not in READS:
                self.applied[key] += 1
        except RefusedError as error:
            told = answer(orjson.dumps({"error": str(error)}), "422 Refused", Content_Type="application/json")
        self.answers[key] = (raw.splitlines()[0] + body, told)
        await self.served(tool, changed)
        writer.write(told)


@asynccontextmanager
async def open_counter(served: Served = _nothing) -> AsyncIterator[tuple[Counters, str]]:
    """Serve the shop on loopback; yield what it counts, and its `host:port`."""
    counters = Counters(served)
    async with serving(counters) as port:
        yield counters, f"127.0.0.1:{port}"
