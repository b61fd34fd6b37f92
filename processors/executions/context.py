"""What a run should know when it begins; looked up outside, recorded by `RecordContext`."""

from dataclasses import dataclass
from typing import Protocol

from processors.executions.state import Run
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue
from schemas.commands import RecalledMemory
from schemas.governance import SiteGrants
from schemas.message import Json


@dataclass(frozen=True, slots=True)
class Context:
    """Tools and prices in force, memories that fit, the entity that the trigger is about, and what the site may do."""

    catalogue: Catalogue
    memories: tuple[RecalledMemory, ...] = ()
    entity: Json = None
    site: SiteGrants | None = None


class ContextPort(Protocol):
    """Looks things up for a run."""

    async def assemble(self, run: Run, config: AgentConfig) -> Context:
        """Return what `run` should know.

        Raises:
            UnavailableError: not now; it is asked again.
        """
        ...
