"""What an agent may do: one place, pure, asked before every tool call. Deny comes first.

Denials and rights follow the agent's current configuration, also in a run that began under an older one.
"""

import hashlib
from dataclasses import dataclass

import orjson

from processors.tools.globs import matches
from processors.tools.validation import validator_for
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue, ToolDefinition
from schemas.chat import ToolCall
from schemas.delegation import DELEGATE
from schemas.events import DenialReason, PlannedCall
from schemas.ids import SiteId
from schemas.message import JsonObject


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a call is refused: a word for programs, a sentence for the model."""

    reason: DenialReason
    message: str


def is_visible(config: AgentConfig, tool: str) -> bool:
    """Whether the agent may use a tool of this name at all."""
    if any(matches(pattern, tool) for pattern in config.denied_tools):
        return False
    if tool == DELEGATE:
        return bool(config.managed_agents)
    return any(matches(pattern, tool) for pattern in config.allowed_tools)


def visible_tools(config: AgentConfig, catalogue: Catalogue) -> tuple[ToolDefinition, ...]:
    """Return the tools of a catalogue that a model of this agent is shown."""
    return tuple(tool for tool in catalogue.tools if is_visible(config, tool.name))


def check(
    config: AgentConfig, catalogue: Catalogue, call: ToolCall | PlannedCall, name: str
) -> ToolDefinition | Denial:
    """Return the tool that `call` names, or why it may not be called."""
    tool = catalogue.tool(name)
    if tool is None:
        return Denial("unknown_tool", f"There is no tool {name[:80]!r}; use one of those you were given.")
    if not is_visible(config, name):
        return Denial("not_allowed", f"This agent may not use the tool {name!r}.")
    fault = validator_for(tool)(call.arguments) or _unwritable(call.arguments)
    if fault is not None:
        return Denial("invalid_arguments", f"The arguments of {name!r} are not valid: {fault}")
    return tool


def _unwritable(arguments: JsonObject) -> str | None:
    """Say that there is what no reader of JSON can be trusted to read back: our own words, as for other faults."""
    try:
        orjson.dumps(arguments)
    except TypeError:
        return "A number in the arguments has more than 64 bits."
    return None


def call_sha256(tool: ToolDefinition, call: PlannedCall, site_id: SiteId) -> str:
    """Return the sha256 of what a grant is for: tool, version, arguments, site, as JSON with sorted keys."""
    named = {"tool": tool.name, "version": tool.version, "arguments": call.arguments, "site": site_id}
    return hashlib.sha256(orjson.dumps(named, option=orjson.OPT_SORT_KEYS)).hexdigest()
