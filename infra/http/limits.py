"""What one request may take: bytes and time for its body, and how many requests are served at once."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.http.problems import Problem, problem_response

BODY_BYTES = 1024 * 1024
BODY_S = 10.0  # from the first byte asked for to the last: a megabyte at 1 Mbit/s
AT_ONCE = 256  # requests being served: bounds what their bodies hold in memory
# What is over the limit is read and dropped up to here, so that its sender hears why: who is cut off in mid-sentence
# sees only a broken connection. Beyond it, and for who asked first (Expect: 100-continue), the connection is closed.
DRAINED_BYTES = 16 * BODY_BYTES

_CLOSE = {"Connection": "close"}


class Limits:
    """An ASGI app that holds the requests of another to limits."""

    def __init__(
        self, app: ASGIApp, *, body_bytes: int = BODY_BYTES, body_s: float = BODY_S, at_once: int = AT_ONCE
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._body_s = body_s
        self._at_once = at_once
        self._now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it as a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._now >= self._at_once:
            busy = Problem(503, "busy", "too many requests at once: try again", headers={"Retry-After": "1", **_CLOSE})
            await problem_response(busy)(scope, receive, send)
            return
        self._now += 1
        try:
            await self._app(scope, _Body(scope, receive, self._body_bytes, self._body_s).receive, send)
        finally:
            self._now -= 1


class _Body:
    """The body of one request, as it comes in. Over a limit, reading it raises a Problem."""

    def __init__(self, scope: Scope, receive: Receive, limit: int, limit_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._limit_s = limit_s
        self._deadline_s: float | None = None
        self._got = 0
        self._ended = False
        headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"expect")}
        length = headers.get(b"content-length", b"")
        self._declared = int(length) if length.isdigit() else 0  # the server refused what is no number
        self._asks_first = b"expect" in headers

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()  # nothing but the end of the connection can come
        if self._declared > self._limit and (self._asks_first or self._declared > DRAINED_BYTES):
            raise self._too_large()
        message = await self._next()
        if message["type"] == "http.request":
            self._got += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._got > self._limit:
                await self._drain()
                raise self._too_large()
        return message

    async def _next(self) -> Message:
        now_s = asyncio.get_running_loop().time()
        if self._deadline_s is None:
            self._deadline_s = now_s + self._limit_s
        try:
            return await asyncio.wait_for(self._receive(), self._deadline_s - now_s)
        except TimeoutError:
            told = f"the body did not arrive within {self._limit_s:g} s"
            raise Problem(408, "slow-body", told, headers=_CLOSE) from None

    async def _drain(self) -> None:
        while not self._ended and self._got <= DRAINED_BYTES:
            message = await self._next()
            self._got += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)

    def _too_large(self) -> Problem:
        return Problem(413, "too-large", f"a body may have {self._limit} bytes", headers=_CLOSE)
