"""What an agent may do: one place, pure, asked before every tool call. Deny comes first.

Everything is decided from the log: denials, rights and rates follow the agent's current configuration and the newest
word on what its site may do, also in a run that began under others. A right counts only if agent, site and requester
all have it, so no agent lends anybody more than they have themselves.
"""

import hashlib
from collections import deque
from dataclasses import dataclass

import orjson

from processors.agents.state import Agent
from processors.executions.conditions import may_hold
from processors.executions.state import Call, Run
from processors.runtime.ledger import HOUR_MS
from processors.tools.globs import matches, matches_any
from processors.tools.rights import rights_of
from processors.tools.validation import validator_for
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue, ToolDefinition
from schemas.delegation import DELEGATE
from schemas.errors import ConfigurationError
from schemas.events import DenialReason, PlannedCall
from schemas.ids import SiteId
from schemas.message import JsonObject

MINUTE_MS = 60_000
ARGUMENTS_LIMIT_BYTES = 64 * 1024  # of one call: a person can still read them, and several fit into one thought


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
    agent: Agent, run: Run, name: str, arguments: JsonObject, at_ms: int, planned: int = 0
) -> ToolDefinition | Denial:
    """Return the tool `name`, or why it may not be called so now; `planned` calls of it are decided along with this."""
    tool = run.catalogue.tool(name)
    if tool is None:
        return Denial("unknown_tool", f"There is no tool {name[:80]!r}; use one of those you were given.")
    if not is_visible(agent.config, name):
        return Denial("not_allowed", f"This agent may not use the tool {name!r}.")
    return (
        _lacking(agent, run, tool, arguments)
        or _unfit(tool, arguments)
        or _forbidden(agent, run, tool, arguments)
        or _too_often(agent, tool, at_ms, planned)
        or tool
    )


def _lacking(agent: Agent, run: Run, tool: ToolDefinition, arguments: JsonObject) -> Denial | None:
    """Say which right or module is missing, and who lacks it."""
    site, requester = agent.site, run.requester
    for permission in rights_of(tool, arguments):
        holders = (
            ("this agent", agent.config.permissions),
            ("this site", site.permissions if site is not None else None),
            ("who asked for this run", requester.rights if requester is not None else None),
        )
        for who, held in holders:
            if held is not None and permission not in held:
                return Denial("missing_permission", f"The tool {tool.name!r} needs {permission!r}; {who} lacks it.")
    for module in tool.requires_modules:
        if site is not None and module not in site.modules:
            return Denial(
                "missing_module", f"The tool {tool.name!r} needs the module {module!r}, which is not enabled."
            )
    return None


def _unfit(tool: ToolDefinition, arguments: JsonObject) -> Denial | None:
    size, unwritable = 0, None
    try:
        size = len(orjson.dumps(arguments))
    except (
        TypeError
    ):  # told below, in the validator's words where it has any; no reader of JSON could be trusted with it
        unwritable = "A number in the arguments has more than 64 bits."
    if size > ARGUMENTS_LIMIT_BYTES:
        said = f"The arguments of {tool.name!r} have {size} bytes; {ARGUMENTS_LIMIT_BYTES} are allowed."
        return Denial("arguments_too_large", said)
    try:
        fault = validator_for(tool)(arguments) or unwritable
    except ConfigurationError:  # the log has a tool that was taken by an earlier release
        fault = "They can't be checked: this release does not take the tool's parameters."
    if fault is not None:
        return Denial("invalid_arguments", f"The arguments of {tool.name!r} are not valid: {fault}")
    return None


def _forbidden(agent: Agent, run: Run, tool: ToolDefinition, arguments: JsonObject) -> Denial | None:
    for constraint in agent.config.enforced_constraints:
        if constraint.effect != "deny" or not matches_any(constraint.tools, tool.name):
            continue
        if may_hold(constraint.condition, agent, run, tool, arguments):
            return Denial("constraint", f"This is forbidden: {constraint.text[:500]}")
    return None


def _too_often(agent: Agent, tool: ToolDefinition, at_ms: int, planned: int) -> Denial | None:
    """Say how long to wait, where a call more would be one too many of a minute or an hour that rolls with it."""
    made: deque[int] = agent.tool_calls.get(tool.name) or deque()
    for limit, window_ms, window in (
        (tool.rate_limit_per_minute, MINUTE_MS, "a minute"),
        (tool.rate_limit_per_hour, HOUR_MS, "an hour"),
    ):
        if limit is None:
            continue
        recent = [then for then in made if then > at_ms - window_ms]
        excess = len(recent) + planned - limit
        if excess >= 0:
            wait_ms = recent[excess] + window_ms - at_ms if excess < len(recent) else window_ms
            said = f"{tool.name!r} may be called {limit} times {window}: try again in {-(-wait_ms // 1000)} seconds."
            return Denial("rate_limited", said)
    return None


def count_call(agent: Agent, tool: ToolDefinition | None, at_ms: int) -> None:
    """Remember that a tool was called, for as long as its rates look back; one without rates is not remembered."""
    if tool is None or (tool.rate_limit_per_minute is None and tool.rate_limit_per_hour is None):
        return
    window_ms = HOUR_MS if tool.rate_limit_per_hour is not None else MINUTE_MS
    made = agent.tool_calls.setdefault(tool.name, deque())
    made.append(at_ms)
    while made[0] <= at_ms - window_ms:
        made.popleft()


def call_sha256(tool: ToolDefinition, call: PlannedCall | Call, site_id: SiteId) -> str:
    """Return the sha256 of what a grant is for: tool, version, arguments, site, as JSON with sorted keys."""
    return sha256_of_call(tool, call.arguments, site_id)


def sha256_of_call(tool: ToolDefinition, arguments: JsonObject, site_id: SiteId) -> str:
    """Return the same of arguments that are no call's yet."""
    return grant_sha256(tool.name, tool.version, arguments, site_id)


def grant_sha256(tool: str, version: str, arguments: JsonObject, site_id: SiteId) -> str:
    """Return the same by name and version of the tool."""
    named = {"tool": tool, "version": version, "arguments": arguments, "site": site_id}
    return hashlib.sha256(orjson.dumps(named, option=orjson.OPT_SORT_KEYS)).hexdigest()
