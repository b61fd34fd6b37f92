"""Agents as YAML files, and applying them: create what is new, update what changed, leave the rest."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from infra.asking import ask
from schemas.agents import AgentConfig
from schemas.commands import ActivateAgent, CreateAgent, UpdateAgent
from schemas.errors import ConfigurationError, RefusedError
from schemas.ids import AgentId, SiteId, agent_id_of
from streams.log import Log

FILE_BYTES = 256 * 1024

Applied = Literal["created", "updated", "unchanged"]


def read_agent(path: Path) -> AgentConfig:
    """Return the agent that a file describes.

    Raises:
        ConfigurationError: it can't be read or is no agent; the message names the field and what it may be.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > FILE_BYTES:
            raise ConfigurationError(f"{path}: an agent's file may have {FILE_BYTES} bytes, this one has {len(raw)}")
        told = yaml.safe_load(raw.decode())
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(told, dict):
        raise ConfigurationError(f"{path}: an agent's file is a mapping of fields, such as `slug: sdr`")
    try:
        return AgentConfig.model_validate(told)
    except ValidationError as error:
        faults = [_fault(dict(fault)) for fault in error.errors(include_url=False)]
        raise ConfigurationError(f"{path}: {'; '.join(faults[:5])}") from None


def _fault(fault: dict[str, object]) -> str:
    loc = fault["loc"]
    where = ".".join(str(part) for part in loc) if isinstance(loc, tuple) else ""
    if fault["type"] == "extra_forbidden":
        known = ", ".join(sorted(AgentConfig.model_fields))
        return f"there is no field {where!r}; there are {known}"
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


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


async def activate_agent(log: Log, site_id: SiteId, user: str, agent_id: AgentId) -> bool:
    """Let the agent's triggers start runs; return whether that is new."""
    try:
        await ask(log, site_id=site_id, agent_id=agent_id, user=user, command=ActivateAgent())
    except RefusedError as error:
        if error.reason != "nothing_to_do":
            raise
        return False
    return True
