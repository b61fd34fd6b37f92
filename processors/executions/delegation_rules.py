"""An orchestrator's rules of delegation: which of them hold for what woke a run, and what follows at once.

They are asked once, when the run knows what it needs, and the answer stands in the log: nothing that reads the log
evaluates them again. Those of mode `propose` are told to the model. Those of mode `force` delegate before the model is
asked for the first time, all at once, a call for each agent; the model sees what became of these calls.
"""

from collections.abc import Iterator, Sequence

from processors.agents.rules import FORCED_TASK_CHARS
from processors.triggers.conditions import facts_of
from schemas.agent_rules import DelegationRule
from schemas.agents import AgentConfig
from schemas.conditions import compile_condition
from schemas.delegation import DELEGATE, RuleFound
from schemas.errors import ConditionError
from schemas.events import PlannedCall
from schemas.ids import ExecutionId, call_id_of
from schemas.message import JsonObject
from schemas.module_events import Trigger

STEPS_IN_ALL = 5_000_000  # of all rules of a run together, of less than 50 ns each: deciding must stay quick
FORCED_STEP = 0  # the step of calls that rules force: the one before the model's first
FORCED_TEXT = "The rules of delegation that I was given ask for this before anything else."
NO_INSTRUCTIONS = "Take on what happened: it stands in the context."

_URGENCY = {"high": 0, "normal": 1, "low": 2}


def found_for(config: AgentConfig, trigger: Trigger) -> tuple[RuleFound, ...]:
    """Return which rules hold for `trigger`, and which can't be said to hold or not; the others are left out."""
    if not config.delegation_rules:
        return ()
    facts, left, found = facts_of(trigger), STEPS_IN_ALL, []
    for place, rule in enumerate(config.delegation_rules):
        value: object = None
        try:
            expression = compile_condition(rule.condition).expression
            left -= expression.cost.of(facts.data())
            if left >= 0:
                value = expression.value(facts)
        except (ConditionError, ValueError):  # a later release may refuse it, or the data may be too large for any
            value = None
        if value is True:
            found.append(RuleFound(rule=place, verdict="holds"))
        elif value is not False:
            found.append(RuleFound(rule=place, verdict="unknown"))
    return tuple(found)


def rule_lines(config: AgentConfig, found: Sequence[RuleFound]) -> Iterator[str]:
    """Yield what the model is told of the rules, a line each: the owner's words, and nothing of the event's."""
    rules = config.delegation_rules
    for each in found:
        rule = rules[each.rule]
        if each.verdict == "unknown":
            yield (
                f"- {rule.agent}: whether its rule applies could not be told from what woke you. The rule is "
                f"`{rule.condition}`: see for yourself.{_more(rule)}"
            )
        elif rule.mode == "force":
            yield f"- {rule.agent}: required. It was called before you were asked; you are shown what came of it."
        else:
            yield f"- {rule.agent}: proposed, because `{rule.condition}`.{_more(rule)}"


def _more(rule: DelegationRule) -> str:
    urgency = f" Priority: {rule.priority}." if rule.priority != "normal" else ""
    return f"{urgency} What it is to do: {rule.instructions.strip()}" if rule.instructions.strip() else urgency


def forced_calls(
    config: AgentConfig, run_id: ExecutionId, found: Sequence[RuleFound], at_ms: int
) -> tuple[PlannedCall, ...]:
    """Return the calls that the rules force: one for each agent, the most urgent first."""
    by_agent: dict[str, list[DelegationRule]] = {}
    for each in found:
        rule = config.delegation_rules[each.rule]
        if each.verdict == "holds" and rule.mode == "force":
            by_agent.setdefault(rule.agent, []).append(rule)
    urgent = sorted(by_agent.items(), key=lambda told: min(_URGENCY[rule.priority] for rule in told[1]))
    return tuple(
        PlannedCall(
            call_id=call_id_of(at_ms, run_id, FORCED_STEP, position),
            model_call_id=f"rule_{position}",
            tool=DELEGATE,
            arguments=_arguments(agent, rules),
        )
        for position, (agent, rules) in enumerate(urgent)
    )


def _arguments(agent: str, rules: Sequence[DelegationRule]) -> JsonObject:
    task = "\n".join(text for rule in rules if (text := rule.instructions.strip())) or NO_INSTRUCTIONS
    priority = min((rule.priority for rule in rules), key=_URGENCY.__getitem__)
    return {"agent": agent, "task": task[:FORCED_TASK_CHARS], "context": {"priority": priority}}


def with_event(trigger: Trigger, context: object) -> JsonObject:
    """Return the context of a forced call with what woke its run, which stands in the log once, where the run began."""
    told: JsonObject = dict(context) if isinstance(context, dict) else {}
    return told | {
        "event": {
            "type": trigger.event_type or trigger.type,
            "source": trigger.source,
            "id": trigger.id,
            "subject": trigger.subject,
            "time_ms": trigger.time_ms,
            "data": trigger.data,
        }
    }
