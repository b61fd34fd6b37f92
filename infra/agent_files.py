"""Agents as YAML files, and applying them: create what is new, update what changed, leave the rest."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel

from infra.asking import ask
from infra.yaml_files import read_yaml
from processors.agents.reading import field_name, nested_model, read_config
from schemas.agents import AgentConfig
from schemas.commands import ActivateAgent, CreateAgent, UpdateAgent
from schemas.errors import Fault, InvalidAgentError, RefusedError
from schemas.ids import AgentId, SiteId, agent_id_of
from streams.log import Log

FILE_BYTES = 256 * 1024

Applied = Literal["created", "updated", "unchanged"]


def read_agent(path: Path, templates: Collection[str] | None = None) -> AgentConfig:
    """Return the agent that a file describes; it may name only report `templates` that are there, where these are told.

    Raises:
        ConfigurationError: it can't be read.
        InvalidAgentError: it is no agent; every fault has its field, its line and what it may be.
    """
    told, tree = read_yaml(path, most_bytes=FILE_BYTES, what="an agent's file")
    faults = [Fault((name,), "this is given twice: give it once", line) for name, line in _repeated(tree)]
    try:
        config = read_config(told, templates)
    except InvalidAgentError as error:
        faults += [fault._replace(line=_line_of(tree, fault.path)) for fault in error.faults]
        raise InvalidAgentError(faults, str(path)) from None
    if faults:
        raise InvalidAgentError(faults, str(path))
    return config


def write_agent(config: AgentConfig) -> str:
    """Return the YAML of an agent: what differs from the defaults, in the order of the fields."""
    told = config.model_dump(mode="json", exclude_defaults=True)
    return yaml.dump(told, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes long texts as blocks, as a person would."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _repeated(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield fields that stand twice in one mapping: YAML would keep the last, silently."""
    if isinstance(node, yaml.SequenceNode):
        for at, item in enumerate(node.value):
            yield from _repeated(item, f"{prefix}[{at}]")
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        name = f"{prefix}.{key.value}".removeprefix(".")
        if key.value in seen:
            yield name, key.start_mark.line + 1
        seen.add(str(key.value))
        yield from _repeated(value, name)


def _line_of(node: yaml.Node | None, path: Sequence[str | int]) -> int:
    """Return the line (from 1) of what stands at `path`, or of the innermost part of it that is there."""
    line = 1
    model: type[BaseModel] = AgentConfig
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            continue
        found = _entry(node, str(part), model)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
        model = nested_model(model, str(part)) or model
    return line


def _entry(node: yaml.Node | None, name: str, model: type[BaseModel]) -> tuple[yaml.Node, yaml.Node] | None:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        written = str(key.value)
        if written == name or field_name(written, model) == name:
            return key, value
    return None


async def apply_agent(log: Log, site_id: SiteId, user: str, config: AgentConfig) -> tuple[AgentId, Applied]:
    """Create the agent, or bring it to `config`; return its id and what was done.

    Raises:
        RefusedError, UnavailableError: see `infra.asking.ask`.
    """
    agent_id = agent_id_of(site_id, config.slug)
    commands: tuple[tuple[CreateAgent | UpdateAgent, Applied], ...] = (
        (CreateAgent(config=config), "created"),
        (UpdateAgent(config=config), "updated"),
    )
    for command, done in commands:
        try:
            await ask(log, site_id=site_id, agent_id=agent_id, user=user, command=command)
        except RefusedError as error:
            if error.reason == "nothing_to_do":
                return agent_id, "unchanged"
            if error.reason != "exists":
                raise
        else:
            return agent_id, done
    raise RefusedError(f"the agent {config.slug!r} changed meanwhile: apply it again", reason="conflict")


async def create_agent(log: Log, site_id: SiteId, user: str, config: AgentConfig) -> tuple[AgentId, bool]:
    """Create the agent; return its id, and whether it is new: one with this very configuration is left alone.

    Raises:
        RefusedError, UnavailableError: see `infra.asking.ask`.
    """
    agent_id = agent_id_of(site_id, config.slug)
    try:
        await ask(log, site_id=site_id, agent_id=agent_id, user=user, command=CreateAgent(config=config))
    except RefusedError as error:
        if error.reason != "nothing_to_do":
            raise
        return agent_id, False
    return agent_id, True


async def activate_agent(log: Log, site_id: SiteId, user: str, agent_id: AgentId) -> bool:
    """Let the agent's triggers start runs; return whether that is new."""
    try:
        await ask(log, site_id=site_id, agent_id=agent_id, user=user, command=ActivateAgent())
    except RefusedError as error:
        if error.reason != "nothing_to_do":
            raise
        return False
    return True
