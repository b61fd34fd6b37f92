"""A model provider on loopback that fails on demand, and counts for itself what it spent.

It speaks OpenAI's chat completions (`/v1/chat/completions`) and Anthropic's messages (`/v1/messages`), streamed or
not. A `plan` says what becomes of each question; `served` has one line for each, so that what was metered can be
compared with what was told, and what nobody was told can be counted too.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.chat import Usage

Fault = Literal[
    "none",
    "rate_limited",  # 429 with Retry-After
    "overloaded",  # 529, as Anthropic has it
    "server_error",  # 500, nothing was done
    "work_then_500",  # the work is done and spent, and the answer is 500
    "hang",  # the question is taken, and nothing comes back
    "slow_start",  # streams: the head comes, and then nothing
    "cut",  # the connection breaks in the middle of the answer
    "truncated_json",  # the answer is whole for HTTP, but its JSON is not
    "bad_arguments",  # a tool call whose arguments are no JSON
    "no_usage",  # the answer does not say what was spent
    "context_length",
    "content_filter",
]
Plan = Callable[[int, dict[str, Any]], Fault]

RETRY_AFTER_S = 0.01
CHARS_A_TOKEN = 4
HEADS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Error",
    529: "Overloaded",
}


@dataclass(frozen=True, slots=True)
class Say:
    """What the model answers: words, and calls of tools as (name, arguments)."""

    text: str = "Done."
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """One question and what became of it. `told` is the usage that was sent; `spent` is what was worked."""

    path: str
    model: str
    fault: Fault
    told: Usage | None
    spent: Usage | None
    body: dict[str, Any]
    key: str


@dataclass
class FakeProvider:
    """The server. `address` is its root; a base URL for OpenAI is `address + "/v1"`."""

    plan: Plan = lambda number, body: "none"
    say: Callable[[dict[str, Any]], Say] = lambda body: Say()
    served: list[Served] = field(default_factory=list)
    address: str = ""
    _hanging: set[asyncio.Task[Any]] = field(default_factory=set)

    # --- counters ---------------------------------------------------------------------------------------------------

    @property
    def told(self) -> Usage:
        """The sum of the usage that was sent to the other side: what must have been metered."""
        return _sum(one.told for one in self.served)

    @property
    def spent(self) -> Usage:
        """The sum of what was worked, told or not."""
        return _sum(one.spent for one in self.served)

    @property
    def untold(self) -> int:
        """How many questions cost something that the other side was not told in whole."""
        return sum(one.spent is not None and one.spent != one.told for one in self.served)

    # --- serving ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeProvider"]:
        """Serve on a free port of loopback."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._hanging):
                task.cancel()
            await asyncio.gather(*self._hanging, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._hanging.add(task)
            task.add_done_callback(self._hanging.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))) or b"{}")
        path = first.split(" ")[1].split("?")[0]
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        return await self._respond(writer, path, body, key)

    async def _respond(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any], key: str) -> bool:
        wires: dict[str, _Wire] = {"/v1/chat/completions": _OPENAI, "/v1/messages": _ANTHROPIC}
        wire = wires.get(path)
        if wire is None:
            await write(writer, 404, b'{"error": {"message": "no such path"}}')
            return True
        fault = self.plan(len(self.served), body)
        said = self.say(body)
        spent = _usage(body, said)
        stream = bool(body.get("stream"))

        def served(told: Usage | None, worked: Usage | None) -> None:
            self.served.append(Served(path, str(body.get("model")), fault, told, worked, body, key))

        if fault in wire.errors:
            served(None, spent if fault == "work_then_500" else None)
            status, error = wire.errors[fault]
            await write(writer, status, json.dumps(error).encode(), retry_after=status == 429)
            return True
        if fault == "hang":
            served(None, spent)
            await asyncio.Event().wait()
        told = None if fault == "no_usage" else spent
        chunks = wire.chunks(body, said, told, fault) if stream else [wire.whole(body, said, told, fault)]
        if fault == "truncated_json":
            whole = b"".join(chunks)
            begun = stream and len(chunks[0]) <= len(whole) // 2
            served(wire.told_early(spent) if begun else None, spent)
            await write(writer, 200, whole[: len(whole) // 2], stream=stream)
            return True
        if fault in ("cut", "slow_start"):
            half = b"".join(chunks[: max(1, len(chunks) // 2)] if fault == "cut" else chunks[:1])
            if not stream:
                half = half[: len(half) // 2]
            served(wire.told_early(spent) if stream else None, spent)
            await _break_off(writer, half, hold=fault == "slow_start", stream=stream)
            return False
        served(told, spent)
        await write(writer, 200, b"".join(chunks), stream=stream)
        return True


async def write(
    writer: asyncio.StreamWriter, status: int, body: bytes, *, stream: bool = False, retry_after: bool = False
) -> None:
    kind = "text/event-stream" if stream else "application/json"
    more = f"retry-after: {RETRY_AFTER_S}\r\n" if retry_after else ""
    head = f"HTTP/1.1 {status} {HEADS[status]}\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _break_off(writer: asyncio.StreamWriter, body: bytes, *, hold: bool, stream: bool) -> None:
    """Send a part of an answer that was to be longer; then hold the line, or hang up."""
    kind = "text/event-stream" if stream else "application/json"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body) + 1_000}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    if hold:
        await asyncio.Event().wait()


def _usage(body: dict[str, Any], said: Say) -> Usage:
    """Return what a question and its answer cost: a function of their length."""
    answered = len(said.text) + sum(len(name) + len(json.dumps(arguments)) for name, arguments in said.calls)
    asked = len(json.dumps([body.get("system"), body["messages"], body.get("tools")]))
    return Usage(input_tokens=-(-asked // CHARS_A_TOKEN), output_tokens=-(-answered // CHARS_A_TOKEN))


def _sum(usages: Iterable[Usage | None]) -> Usage:
    known = [usage for usage in usages if usage is not None]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in known),
        output_tokens=sum(usage.output_tokens for usage in known),
    )


# --- dialects -------------------------------------------------------------------------------------------------------


def _arguments(arguments: dict[str, Any], fault: Fault) -> str:
    return "{not json" if fault == "bad_arguments" else json.dumps(arguments)


def _event(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


class _OpenAI:
    errors: dict[str, tuple[int, Any]] = {  # noqa: RUF012 - a constant
        "rate_limited": (429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}),
        "overloaded": (529, {"error": {"message": "Overloaded", "type": "overloaded_error"}}),
        "server_error": (500, {"error": {"message": "The server had an error", "type": "server_error"}}),
        "work_then_500": (500, {"error": {"message": "The server had an error", "type": "server_error"}}),
        "context_length": (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        "content_filter": (400, {"error": {"message": "filtered", "code": "content_filter"}}),
    }

    def told_early(self, spent: Usage) -> Usage | None:
        return None

    def _told(self, usage: Usage | None) -> Any:
        if usage is None:
            return None
        return {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}

    def _calls(self, said: Say, fault: Fault) -> list[Any]:
        return [
            {
                "index": i,
                "id": f"call_{i}",
                "type": "function",
                "function": {"name": name, "arguments": _arguments(arguments, fault)},
            }
            for i, (name, arguments) in enumerate(said.calls)
        ]

    def whole(self, body: dict[str, Any], said: Say, usage: Usage | None, fault: Fault) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
        if said.calls:
            message["tool_calls"] = self._calls(said, fault)
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if said.calls else "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        return json.dumps(answer | ({"usage": self._told(usage)} if usage else {})).encode()

    def chunks(self, body: dict[str, Any], said: Say, usage: Usage | None, fault: Fault) -> list[bytes]:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}

        def chunk(delta: Any, finish: str | None = None) -> bytes:
            return _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        events = [chunk({"role": "assistant", "content": ""})]
        events += [chunk({"content": word + " "}) for word in said.text.split(" ")[:-1]]
        events += [chunk({"content": said.text.split(" ")[-1]})] if said.text else []
        events += [chunk({"tool_calls": [call]}) for call in self._calls(said, fault)]
        events.append(chunk({}, "tool_calls" if said.calls else "stop"))
        if usage is not None and (body.get("stream_options") or {}).get("include_usage"):
            events.append(_event({**head, "choices": [], "usage": self._told(usage)}))
        return [*events, _event("[DONE]")]


class _Anthropic:
    errors: dict[str, tuple[int, Any]] = {  # noqa: RUF012 - a constant
        "rate_limited": (429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}),
        "overloaded": (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        "server_error": (500, {"type": "error", "error": {"type": "api_error", "message": "error"}}),
        "work_then_500": (500, {"type": "error", "error": {"type": "api_error", "message": "error"}}),
        "context_length": (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}},
        ),
        "content_filter": (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "blocked by content filtering"}},
        ),
    }

    def told_early(self, spent: Usage) -> Usage | None:
        return Usage(input_tokens=spent.input_tokens, output_tokens=1)

    def _blocks(self, said: Say) -> list[Any]:
        blocks: list[Any] = [{"type": "text", "text": said.text}] if said.text else []
        return blocks + [
            {"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": arguments}
            for i, (name, arguments) in enumerate(said.calls)
        ]

    def whole(self, body: dict[str, Any], said: Say, usage: Usage | None, fault: Fault) -> bytes:
        blocks = self._blocks(said)
        for block in blocks:
            if block["type"] == "tool_use" and fault == "bad_arguments":
                block["input"] = "not an object"
        answer = {"id": "m", "type": "message", "role": "assistant", "model": body["model"], "content": blocks}
        answer["stop_reason"] = "tool_use" if said.calls else "end_turn"
        if usage is not None:
            answer["usage"] = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        return json.dumps(answer).encode()

    def chunks(self, body: dict[str, Any], said: Say, usage: Usage | None, fault: Fault) -> list[bytes]:
        message: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant", "model": body["model"]}
        message |= {"content": [], "stop_reason": None}
        if usage is not None:
            message["usage"] = {"input_tokens": usage.input_tokens, "output_tokens": 1}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
        for index, block in enumerate(self._blocks(said)):
            if block["type"] == "text":
                start: dict[str, Any] = {"type": "text", "text": ""}
                delta = {"type": "text_delta", "text": block["text"]}
            else:
                start = {**block, "input": {}}
                delta = {"type": "input_json_delta", "partial_json": _arguments(block["input"], fault)}
            events.append({"type": "content_block_start", "index": index, "content_block": start})
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
            events.append({"type": "content_block_stop", "index": index})
        end: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
        end["delta"]["stop_reason"] = "tool_use" if said.calls else "end_turn"
        end["usage"] = {} if usage is None else {"output_tokens": usage.output_tokens}
        events += [end, {"type": "message_stop"}]
        return [_event(event, event["type"]) for event in events]


_OPENAI, _ANTHROPIC = _OpenAI(), _Anthropic()
_Wire = _OpenAI | _Anthropic
