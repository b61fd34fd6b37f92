"""Which rules are in force in which site: folded from the same events as the router's directory of agents."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from processors.signals.rules import Rule, rule_of
from schemas.agent_rules import MonitoringRule
from schemas.envelope import EventEnvelope
from schemas.errors import ConditionError
from schemas.events import AgentActivated, AgentCreated, AgentDeactivated, AgentDeleted, AgentUpdated
from schemas.ids import AgentId, SiteId
from schemas.message import Json

logger = logging.getLogger(__name__)

_RULES = TypeAdapter(tuple[MonitoringRule, ...])


@dataclass(slots=True)
class _Guardian:
    configs: tuple[MonitoringRule, ...]
    allow_own: bool
    active: bool = False


@dataclass(slots=True)
class Rulebook:
    """The rules of active agents, by site."""

    _guardians: dict[SiteId, dict[AgentId, _Guardian]] = field(default_factory=dict)
    _in_force: dict[SiteId, tuple[Rule, ...]] = field(default_factory=dict)

    def in_force(self, site_id: SiteId) -> Sequence[Rule]:
        """Return the rules of a site's active agents."""
        return self._in_force.get(site_id, ())

    def apply(self, envelope: EventEnvelope) -> None:
        """Take in an event of an agent that counts."""
        site = self._guardians.setdefault(envelope.site_id, {})
        known = site.get(envelope.agent_id)
        match envelope.event:
            case AgentCreated(config=config):
                site[envelope.agent_id] = _Guardian(config.monitoring_rules, config.allow_self_trigger)
            case AgentUpdated(changes=changes) if known is not None:
                if "monitoring_rules" in changes:
                    known.configs = _read(changes["monitoring_rules"])
                if "allow_self_trigger" in changes:
                    known.allow_own = bool(changes["allow_self_trigger"])
            case AgentActivated() if known is not None:
                known.active = True
            case AgentDeactivated() if known is not None:
                known.active = False
            case AgentDeleted():
                site.pop(envelope.agent_id, None)
            case _:
                return
        self._in_force[envelope.site_id] = tuple(
            rule for agent_id, guardian in site.items() if guardian.active for rule in self._rules(agent_id, guardian)
        )

    def _rules(self, agent_id: AgentId, guardian: _Guardian) -> list[Rule]:
        rules: list[Rule] = []
        for config in guardian.configs:
            try:
                rules.append(rule_of(agent_id, config, allow_own=guardian.allow_own))
            except (ValueError, ConditionError) as error:  # saved by a release that allowed it: the others still hold
                logger.warning("a rule of agent %r is not applied: %s", agent_id, error)
        return rules


def _read(rules: Json) -> tuple[MonitoringRule, ...]:
    try:
        return _RULES.validate_python(rules)
    except ValidationError as error:  # of a newer release, which alone can apply them
        logger.warning("an agent's rules can't be read: %s", error)
        return ()
