"""The other side: models that answer by chance, tools with effects, and a ledger of what they were really asked.

The ledger is what the checks hold against the log. Each entry says how far the log of its partition reached when the
call came in, so that an effect without an earlier request is seen.
"""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from processors.executions.context import Context
from processors.executions.state import Run
from processors.models.port import ModelReply, ModelRequest
from processors.tools.builtin.delegation import DELEGATE_TOOL
from processors.tools.call import call_tool
from processors.tools.port import ToolError, ToolRequest, ToolResult
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue, Price, ToolDefinition
from schemas.chat import ToolCall, Usage
from schemas.delegation import DELEGATE
from schemas.errors import ModelError, UnavailableError
from schemas.ids import AgentId, CallId, ExecutionId, random_id
from schemas.message import Json, JsonObject

Ends = Callable[[AgentId], tuple[int, int]]  # how far ai.commands and ai.events of an agent's partition reach now


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that `process` made, and how far both topics of its agent's partition reached when it came in."""

    process: str
    agent_id: AgentId
    execution_id: ExecutionId
    events_end: int
    commands_end: int


@dataclass(frozen=True, slots=True)
class ModelAsked(Asked):
    """A question to a model."""

    step: int


@dataclass(frozen=True, slots=True)
class ToolAsked(Asked):
    """A tool call. `sha256` is over what was really asked for, as a grant names it."""

    call_id: CallId
    tool: str
    idempotent: bool
    sha256: str


@dataclass
class Ledger:
    """Everything that models and tools were asked, in order, and the replies that were given."""

    models: list[ModelAsked] = field(default_factory=list)
    tools: list[ToolAsked] = field(default_factory=list)
    replies: list[tuple[str, str]] = field(default_factory=list)  # to which process, and the reply's id
    applied: dict[CallId, tuple[str, Json]] = field(default_factory=dict)
    under_way: Counter[str] = field(default_factory=Counter)  # tool calls, by process; a dead one's never end


def tool(name: str, *, idempotent: bool = True, dangerous: bool = False, timeout_s: float = 10.0) -> ToolDefinition:
    """Return a tool that takes a number."""
    return ToolDefinition(
        name=name,
        display_name=name,
        description=name,
        category="test",
        parameters={
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
            "additionalProperties": False,
        },
        handler_type="internal",
        is_dangerous=dangerous,
        risk="high" if dangerous else "low",
        idempotent=idempotent,
        timeout_s=timeout_s,
    )


TOOLS = (
    tool("look_up"),
    tool("book"),
    tool("charge", idempotent=False),
    tool("mail", dangerous=True),
    tool("wire", idempotent=False, dangerous=True),
    tool("forbidden"),
)
PRICES = (Price(provider="sim", model="*", version="1", input=2_000_000, cached_input=1_000_000, output=10_000_000),)
CATALOGUES = tuple(Catalogue(tools=(*TOOLS[: 6 - n], DELEGATE_TOOL), prices=PRICES) for n in range(2))
OFTEN = ("look_up", "book", "book", *["charge"] * 6, "mail", "wire", "wire")
SELDOM = ("forbidden", "no_such_tool")
DELEGATED = 0.5  # of the calls of a model that may delegate
SLUGS = (*["agent-1", "agent-2"] * 3, "agent-0", "agent-9")  # the last is nobody


@dataclass
class Model:
    """A model that answers by chance: with calls, in words, too late, twice to two owners, or not at all."""

    process: str
    rng: random.Random
    ledger: Ledger
    ends: Ends
    trouble: Callable[[], float]  # how likely a call goes wrong now

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer once."""
        commands_end, events_end = self.ends(request.agent_id)
        self.ledger.models.append(
            ModelAsked(self.process, request.agent_id, request.execution_id, events_end, commands_end, request.step)
        )
        trouble, roll = self.trouble(), self.rng.random()
        if roll < trouble * 0.1:
            await asyncio.sleep(1_000)  # it hangs
        await asyncio.sleep(self.rng.uniform(0.02, 0.8) if self.rng.random() < 0.9 else self.rng.uniform(1, 8))
        if roll < trouble * 0.5:
            raise ModelError("overloaded", reason="overloaded", retryable=True)
        if roll < trouble * 0.6:
            raise ModelError("no such model", reason="refused", retryable=False)
        if roll < trouble * 0.7:
            raise RuntimeError("the adapter has a bug")
        calls = (
            ()
            if roll > 0.9 or not request.tools
            else tuple(self._call(request) for _ in range(self.rng.choice((1, 1, 2))))
        )
        reply_id = random_id()
        self.ledger.replies.append((self.process, reply_id))
        return ModelReply(
            reply_id=reply_id,
            provider="sim",
            model="sim-1",
            text="" if calls else "Done.",
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            usage=Usage(input_tokens=self.rng.randint(1, 99), output_tokens=self.rng.randint(1, 9)),
        )

    def _call(self, request: ModelRequest) -> ToolCall:
        if any(tool.name == DELEGATE for tool in request.tools) and self.rng.random() < DELEGATED:
            task: JsonObject = {"agent": self.rng.choice(SLUGS), "task": "Work."}
            return ToolCall(id=f"m{self.rng.randint(0, 9_999)}", name=DELEGATE, arguments=task)
        arguments: JsonObject = {"n": self.rng.randint(0, 99)} if self.rng.random() < 0.95 else {"n": "nine"}
        name = self.rng.choice(OFTEN if self.rng.random() < 0.92 else SELDOM)
        return ToolCall(id=f"m{self.rng.randint(0, 9_999)}", name=name, arguments=arguments)


@dataclass
class Tools:
    """Tools behind the house's own retries: slow, failing, and now and then failing after they have acted."""

    process: str
    rng: random.Random
    ledger: Ledger
    ends: Ends
    trouble: Callable[[], float]

    async def call(self, request: ToolRequest) -> ToolResult:
        """Make one call."""
        commands_end, events_end = self.ends(request.agent_id)
        self.ledger.tools.append(
            ToolAsked(
                self.process,
                request.agent_id,
                request.execution_id,
                events_end,
                commands_end,
                request.call_id,
                request.tool.name,
                request.tool.idempotent,
                _sha256(request),
            )
        )
        self.ledger.under_way[self.process] += 1
        try:
            return await call_tool(self._answer, request, random=self.rng.random)
        finally:
            self.ledger.under_way[self.process] -= 1

    async def _answer(self, request: ToolRequest) -> Json:
        trouble, roll = self.trouble(), self.rng.random()
        await asyncio.sleep(self.rng.uniform(0.01, 0.4))
        if roll < trouble * 0.2:
            raise UnavailableError("not now")
        if roll < trouble * 0.3:
            raise ToolError("no such number")
        # The other side honours the key: a second call with it finds what the first one did.
        _, output = self.ledger.applied.setdefault(request.call_id, (_sha256(request), self.rng.randint(0, 999)))
        slow = not request.tool.idempotent or self.rng.random() < 0.2
        await asyncio.sleep(self.rng.uniform(0.5, 11) if slow else self.rng.uniform(0.01, 0.4))
        if trouble * 0.3 < roll < trouble * 0.5:
            raise UnavailableError("the answer got lost")
        if trouble * 0.5 < roll < trouble * 0.6:
            raise RuntimeError("the gateway has a bug")
        return output


def _sha256(request: ToolRequest) -> str:
    named = {
        "tool": request.tool.name,
        "version": request.tool.version,
        "arguments": request.arguments,
        "site": request.site_id,
    }
    return hashlib.sha256(orjson.dumps(named, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass
class Contexts:
    """Tools and prices in force: they change, and now and then can't be looked up."""

    rng: random.Random
    trouble: Callable[[], float]

    async def assemble(self, run: Run, config: AgentConfig) -> Context:
        """Return what a run should know."""
        await asyncio.sleep(self.rng.uniform(0.005, 0.1))
        if self.rng.random() < self.trouble() * 0.25:
            await asyncio.sleep(1_000)
        if self.rng.random() < self.trouble() * 0.3:
            raise UnavailableError("not now")
        return Context(self.rng.choice(CATALOGUES), entity={"looked_up": self.rng.randint(0, 99)})
