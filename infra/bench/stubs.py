"""A model and tools that answer at once, so that what is measured is the system around them."""

from processors.executions.context import Context
from processors.executions.state import Run
from processors.models.port import ModelReply, ModelRequest
from processors.tools.port import ToolRequest, ToolResult
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue, Price, ToolDefinition
from schemas.chat import ToolCall, Usage
from schemas.ids import random_id

MODEL_CALLS = 4
TEXT = "The contact fits what we look for; next, the figures of the last quarter are compared. " * 6
PROVIDER, MODEL = "stub", "stub-1"

TOOL = ToolDefinition(
    name="stub_lookup",
    display_name="Look up",
    description="Answers at once.",
    category="data",
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["query"],
        "additionalProperties": False,
    },
    handler_type="internal",
)
PRICE = Price(provider=PROVIDER, model="*", version="1", input=2_500_000, cached_input=1_250_000, output=10_000_000)
CONTEXT = Context(Catalogue(tools=(TOOL,), prices=(PRICE,)))


class StubModel:
    """Calls the tool three times, then answers."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the reply of the request's step."""
        last = request.step >= MODEL_CALLS
        calls = () if last else (ToolCall(id=f"c{request.step}", name=TOOL.name, arguments={"query": TEXT[:80]}),)
        usage = Usage(input_tokens=1_000, output_tokens=120)
        return ModelReply(random_id(), PROVIDER, MODEL, TEXT[:480], calls, "stop" if last else "tool_calls", usage)


class StubTools:
    """Answers with some 500 bytes."""

    async def call(self, request: ToolRequest) -> ToolResult:
        """Return the same output for every call."""
        return ToolResult({"query": request.arguments["query"], "text": TEXT[:400], "count": 3})


class StubContext:
    """Knows one tool and one price."""

    async def assemble(self, run: Run, config: AgentConfig) -> Context:
        """Return the same context for every run."""
        return CONTEXT


def agent_config(slug: str) -> AgentConfig:
    """Return an agent that nothing holds back."""
    return AgentConfig(
        slug=slug,
        name=slug,
        agent_type="assistant",
        system_prompt=TEXT[:400],
        llm_provider=PROVIDER,
        llm_model=MODEL,
        triggers=("manual",),
        allowed_tools=("stub_*",),
        max_runs_per_hour=10_000_000,
        max_runs_per_day=100_000_000,
        max_concurrent_runs=100_000,
    )
