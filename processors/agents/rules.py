"""What must hold between the fields of a configuration, beyond the shape of each: said with the field and the fix.

Asked when an agent is saved, never of what stands in the log already. The decider asks `faults_of`, which is our own
code and the same in every release that decides; whoever takes configurations from people asks
`expression_faults_of` too, since whether a text is CEL is for a library to say.
"""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches

from processors.signals.rules import limits_fault
from processors.triggers.matching import wakes
from schemas.agent_rules import DelegationRule, MonitoringRule
from schemas.agents import AgentConfig, AgentType, Goal
from schemas.conditions import compile_amount, compile_condition
from schemas.errors import ConditionError, Fault
from schemas.governance import CALL, EnforcedConstraint, RiskRule

_ONLY_OF: tuple[tuple[str, AgentType, str], ...] = (
    ("managed_agents", "orchestrator", "agents to manage"),
    ("delegation_rules", "orchestrator", "rules of delegation"),
    ("report_templates", "analyst", "report templates"),
    ("monitoring_rules", "guardian", "rules of monitoring"),
)
_OWN_GOAL_EVENT = "ai.goal.progressed"
FORCED_TASK_CHARS = 10_000  # of what rules tell an agent together: as long as a task may be


def faults_of(config: AgentConfig) -> list[Fault]:
    """Return what is wrong with a configuration, but for its expressions."""
    return [
        *_of_types(config),
        *_of_instructions(config),
        *_of_goals(config),
        *_of_delegation(config),
        *_of_rules(config),
        *_of_approvals(config),
    ]


def expression_faults_of(config: AgentConfig) -> list[Fault]:
    """Return what is wrong with the expressions of a configuration."""
    faults = []
    for path, text in _conditions_of(config):
        try:
            compile_condition(text)
        except ConditionError as error:
            faults.append(Fault(path, str(error)))
    guards: tuple[tuple[str, Sequence[RiskRule | EnforcedConstraint]], ...] = (
        ("risk_rules", config.risk_rules),
        ("enforced_constraints", config.enforced_constraints),
    )
    for field, rules in guards:
        for at, rule in enumerate(rules):
            try:
                compile_condition(rule.condition or "true", CALL)
            except ConditionError as error:
                faults.append(Fault((field, at, "condition"), str(error)))
    for at, goal in enumerate(config.goals):
        try:
            compile_amount(goal.progress)
        except ConditionError as error:
            faults.append(Fault(("goals", at, "progress"), str(error)))
    return faults


def template_faults_of(config: AgentConfig, known: Collection[str]) -> list[Fault]:
    """Return which report templates of a configuration are not among the `known` ones."""
    there = f"there are {', '.join(sorted(known))}" if known else "there are none"
    return [
        Fault(("report_templates", at), f"{name!r} is no report template{nearest(name, sorted(known))}; {there}")
        for at, name in enumerate(config.report_templates)
        if name not in known
    ]


def _conditions_of(config: AgentConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    rules: tuple[tuple[str, Sequence[Goal | DelegationRule | MonitoringRule]], ...] = (
        ("goals", config.goals),
        ("delegation_rules", config.delegation_rules),
        ("monitoring_rules", config.monitoring_rules),
    )
    for field, items in rules:
        for at, item in enumerate(items):
            if item.condition is not None:
                yield (field, at, "condition"), item.condition


def nearest(name: str, known: Sequence[str]) -> str:
    """Return `; did you mean 'x'?` where something like `name` is known, else nothing."""
    begun = [other for other in known if len(name) >= 3 and other.startswith(name)]
    close = begun or get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _of_types(config: AgentConfig) -> Iterator[Fault]:
    for field, agent_type, what in _ONLY_OF:
        if getattr(config, field) and config.agent_type != agent_type:
            article = "an" if agent_type[0] in "aeio" else "a"
            yield Fault(
                (field,),
                f"only {article} {agent_type} has {what}, and this one is of type {config.agent_type!r}: "
                f"write `type: {agent_type}`, or leave the field out",
            )


def _of_instructions(config: AgentConfig) -> Iterator[Fault]:
    if not (config.system_prompt.strip() or config.personality.strip()):
        yield Fault(("system_prompt",), "say here, or in personality, what the agent is to do")


def _of_goals(config: AgentConfig) -> Iterator[Fault]:
    measured: set[str] = set()
    for at, goal in enumerate(config.goals):
        if goal.event is None:
            for field in ("condition", "progress", "aggregate", "period"):
                if getattr(goal, field) != type(goal).model_fields[field].default:
                    yield Fault(
                        ("goals", at, field),
                        "this says how a goal is measured, but not by which event: add `event: crm.deal.won`",
                    )
            continue
        if goal.name in measured:
            yield Fault(("goals", at, "name"), f"two measured goals are named {goal.name!r}: progress goes by the name")
        measured.add(goal.name)
        if wakes(goal.event, _OWN_GOAL_EVENT):
            yield Fault(
                ("goals", at, "event"), "a goal can't be moved by goals: name other events, as `ai.execution.*`"
            )
        if goal.period is not None and not goal.is_recurring:
            yield Fault(
                ("goals", at, "period"),
                "only a recurring goal begins anew: leave the period out, or write `is_recurring: true`",
            )


def _of_delegation(config: AgentConfig) -> Iterator[Fault]:
    seen: set[str] = set()
    for at, slug in enumerate(config.managed_agents):
        if slug == config.slug:
            yield Fault(("managed_agents", at), "an agent can't manage itself: leave it out")
        if slug in seen:
            yield Fault(("managed_agents", at), f"{slug!r} is listed twice")
        seen.add(slug)
    told: dict[str, int] = {}
    for at, rule in enumerate(config.delegation_rules):
        if rule.agent not in seen:
            near = nearest(rule.agent, sorted(seen))
            yield Fault(
                ("delegation_rules", at, "agent"),
                f"{rule.agent!r} is not among the managed_agents{near or ': add it there'}",
            )
        if rule.mode != "force":
            continue
        told[rule.agent] = told.get(rule.agent, 0) + len(rule.instructions) + 1
        if told[rule.agent] > FORCED_TASK_CHARS:
            yield Fault(
                ("delegation_rules", at, "instructions"),
                f"what rules that are forced tell one agent may have {FORCED_TASK_CHARS:,} characters together: "
                "say it more briefly",
            )


def _of_approvals(config: AgentConfig) -> Iterator[Fault]:
    for at, rule in enumerate(config.risk_rules):
        if rule.threshold is not None and rule.argument is None:
            yield Fault(("risk_rules", at, "argument"), "say what the threshold is for, such as `argument: amount`")
    if config.on_expiry == "escalate" and config.escalate_to is None:
        yield Fault(("escalate_to",), "say which role is asked when nobody answered, such as `escalate_to: manager`")
    if config.escalate_to is not None and config.on_expiry != "escalate":
        yield Fault(("on_expiry",), "escalate_to is followed only with `on_expiry: escalate`")
    if config.escalate_to == config.approver_role:
        yield Fault(("escalate_to",), f"{config.escalate_to!r} was asked already: name another role")


def _of_rules(config: AgentConfig) -> Iterator[Fault]:
    seen: set[str] = set()
    for at, rule in enumerate(config.monitoring_rules):
        if rule.name in seen:
            yield Fault(("monitoring_rules", at, "name"), f"two rules are named {rule.name!r}: a signal names its rule")
        seen.add(rule.name)
        if (told := limits_fault(rule)) is not None:
            yield Fault(("monitoring_rules", at, told[0]), told[1])
        if rule.baseline is not None and rule.key is None:
            yield Fault(
                ("monitoring_rules", at, "key"),
                "a baseline is each key's own: say whose, as in `key: data.user_id`",
            )
