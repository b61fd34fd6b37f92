"""Which agents of a site an event wakes: found by its type, then asked for their conditions.

A glob is matched against the whole type, and against the type without its first part, the module's name: so
`contact.*` fits `crm.contact.created`, and an agent need not know which module tells it. What agents do themselves
(`ai.*`) wakes only who says so, with a glob that begins with `ai.`: otherwise `*` would wake an agent by what it does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from processors.tools.globs import matches
from schemas.conditions import Condition
from schemas.ids import AgentId

OWN_PREFIX = "ai."  # of the types of `ai.events`
REMEMBERED_TYPES = 1_000  # of a site: more are looked up each time


def wakes(pattern: str, event_type: str) -> bool:
    """Whether the glob `pattern` of a trigger fits an event's type."""
    if event_type.startswith(OWN_PREFIX):
        return pattern.startswith(OWN_PREFIX) and matches(pattern, event_type)
    if matches(pattern, event_type):
        return True
    _, dot, rest = event_type.partition(".")
    return bool(dot) and matches(pattern, rest)


class Pattern(NamedTuple):
    """A glob of event types, and the condition under which it wakes; None: always."""

    glob: str
    condition: Condition | None = None


class Candidate(NamedTuple):
    """An agent that an event of some type wakes: always, or if one of `conditions` holds."""

    agent_id: AgentId
    conditions: tuple[Condition, ...]


@dataclass(slots=True)
class Index:
    """The patterns of a site's agents by the types that they fit; to be made anew when any of them changes."""

    exact: dict[str, list[tuple[AgentId, Pattern]]] = field(default_factory=dict)
    globs: list[tuple[AgentId, Pattern]] = field(default_factory=list)
    _found: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, patterns: Mapping[AgentId, Iterable[Pattern]]) -> "Index":
        """Return the index of these agents' patterns."""
        index = cls()
        for agent_id, own in patterns.items():
            for pattern in own:
                if "*" in pattern.glob:
                    index.globs.append((agent_id, pattern))
                else:
                    index.exact.setdefault(pattern.glob, []).append((agent_id, pattern))
        return index

    def candidates(self, event_type: str) -> tuple[Candidate, ...]:
        """Return the agents that an event of this type may wake."""
        found = self._found.get(event_type)
        if found is None:
            found = self._look_up(event_type)
            if len(self._found) < REMEMBERED_TYPES:
                self._found[event_type] = found
        return found

    def _look_up(self, event_type: str) -> tuple[Candidate, ...]:
        fitting = list(self.exact.get(event_type, ()))
        _, dot, rest = event_type.partition(".")
        if dot and not event_type.startswith(OWN_PREFIX):
            fitting += self.exact.get(rest, ())
        fitting += [(agent_id, pattern) for agent_id, pattern in self.globs if wakes(pattern.glob, event_type)]
        conditions: dict[AgentId, list[Condition] | None] = {}
        for agent_id, pattern in fitting:
            so_far = conditions.setdefault(agent_id, [])
            if pattern.condition is None:
                conditions[agent_id] = None
            elif so_far is not None:
                so_far.append(pattern.condition)
        return tuple(Candidate(agent_id, tuple(asked or ())) for agent_id, asked in conditions.items())
