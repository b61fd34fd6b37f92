"""The fields of an agent's file, for people: name, type, default and meaning.

Names, types and defaults come from the models; a meaning stands here for each. docs/agents.md is made of this, and a
test compares both with the models, so that none goes stale.
"""

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from processors.agents.reading import nested_model
from schemas.agents import AgentConfig
from schemas.message import Json

MOST_NAMED = 8  # values that a type lists; where there are more, the meaning says where they stand
MEANINGS = {
    "slug": "the name by which commands and other agents know it; it never changes. Without one, it is made of `name`",
    "name": "what people call it",
    "description": "what it is for, in a sentence",
    "avatar_url": "a picture of it",
    "personality": "who it is: the first part of what the model is told",
    "agent_type": "what kind of agent it is; may be written `type`",
    "domain": "the field it works in, such as `sales`",
    "capabilities": "what it is good at, in words",
    "system_prompt": "what it is to do; may be left out where the personality says it",
    "goals": "what it works towards; the model is told them by priority, with how far they are",
    "goals[].name": "what the goal is called; progress goes by it",
    "goals[].description": "what it means",
    "goals[].priority": "from 1 to 10, which matters most",
    "goals[].metric": "what is measured, in a word; may be written `success_metric`",
    "goals[].target": "the value to reach; may be written `target_value`",
    "goals[].comparison": "how the value must stand to the target",
    "goals[].is_recurring": "whether it is to be met again and again; one that is not stays achieved",
    "goals[].deadline": "until when; met later, it does not count as achieved. Without a zone, the time is UTC",
    "goals[].event": "the events that measure it: a type or a glob, of the modules or `ai.*` of its own",
    "goals[].condition": "CEL over `event` and `data`: which of these events move it; without, all do",
    "goals[].progress": "CEL over `event` and `data`: by how much an event moves it; true counts 1 and false 0",
    "goals[].aggregate": "what the value is made of: the sum of these amounts, the last of them, or their average",
    "goals[].period": "when it begins anew, in UTC; without one, it goes on for ever",
    "constraints": "what it must not do; the model is told",
    "enforced_constraints": "what it must not do, which the model is told and held to",
    "enforced_constraints[].text": "the constraint in words: the model and who is asked read them",
    "enforced_constraints[].tools": "globs of the tools that it is about",
    "enforced_constraints[].condition": "CEL over `tool`, `arguments`, `agent` and `trigger`: which of their calls",
    "enforced_constraints[].effect": "whether such a call waits for a person, or is denied",
    "examples": "what came in, and what a good answer is",
    "examples[].input": "what came in",
    "examples[].output": "what a good answer is",
    "triggers": "what wakes it: `event:TYPE` or `event:GLOB`, `schedule:NAME`, `webhook`, `manual`",
    "trigger_conditions": "CEL over `event` and `data`, by trigger: what must hold of an event that wakes it",
    "timezone": "the time zone of its schedules",
    "missed_runs": "what becomes of times at which nothing was running: none, one or all of them start a run",
    "max_missed_runs": "how many of them at most, where all do",
    "allow_self_trigger": "whether events that it caused itself wake it",
    "max_causation_depth": "how many runs may have led to an event that wakes it",
    "is_public": "whether other sites may see it",
    "llm_provider": "who serves its model",
    "llm_model": "the model",
    "temperature": "how freely the model answers, from 0 to 2",
    "max_tokens": "the tokens of one reply",
    "fallback_models": "models to ask where its own does not answer, each as `provider/model`",
    "max_steps_per_run": "the questions that a run may ask the model",
    "max_tool_calls_per_step": "the tool calls of one reply that are made",
    "timeout_seconds": "how long a run may take; it stands still while a person is awaited",
    "max_runs_per_hour": "the runs of any 60 minutes",
    "max_runs_per_day": "the runs of any 24 hours",
    "max_concurrent_runs": "the runs at a time",
    "max_tokens_per_run": "the tokens of a run, in and out, with those of the runs that it delegates to",
    "max_tokens_per_day": "the tokens of all its runs in a day, in UTC",
    "max_tokens_per_month": "the tokens of all its runs in a month, in UTC",
    "max_cost_micros_per_run": "what a run may cost, in millionths of a US dollar, with the runs that it delegates to",
    "max_cost_micros_per_day": "what all its runs may cost in a day, in UTC",
    "max_cost_micros_per_month": "what all its runs may cost in a month, in UTC",
    "allowed_tools": "globs of the tools that it may use; what nothing allows is denied",
    "denied_tools": "globs of the tools that it may not use, whatever is allowed",
    "permissions": "its rights, of those in governance.md; without the field, all that its site has",
    "risk_rules": "what raises the risk of a call, besides what its tool and its site say",
    "risk_rules[].tool": "a glob of the tools that it is about",
    "risk_rules[].risk": "the risk that such a call has at least",
    "risk_rules[].argument": "where a value stands in the arguments, such as `to` or `order.amount`; may be `field`",
    "risk_rules[].comparison": "how the value (a number, or the length of a list) must stand to the threshold",
    "risk_rules[].threshold": "what the value is compared with; without it, the rule holds where there is a value",
    "risk_rules[].condition": "CEL over `tool`, `arguments`, `agent` and `trigger`: which of these calls",
    "risk_rules[].explanation": "why, for who is asked",
    "approval_threshold": "from which risk on a call waits for a person; a critical one does in any case",
    "approval_timeout_seconds": "how long that person may take",
    "approver_role": "the role of who may answer",
    "on_denial": "what becomes of a run whose call was denied: it is cancelled, or its model is told",
    "on_expiry": "what becomes of it when nobody answered: cancelled, its call denied, or another role is asked",
    "escalate_to": "that other role",
    "managed_agents": "an orchestrator's: the slugs of the agents it may delegate to",
    "max_delegations_per_run": "how many runs of managed agents a run may start",
    "delegation_rules": "an orchestrator's: when to delegate to whom",
    "delegation_rules[].condition": "CEL over `event` and `data` of what woke it",
    "delegation_rules[].agent": "the managed agent",
    "delegation_rules[].mode": "whether the model is told of the rule, or it is followed in any case",
    "delegation_rules[].priority": "how much it matters",
    "delegation_rules[].instructions": "what the managed agent is to do",
    "report_templates": "an analyst's: the reports it writes; each must be there",
    "monitoring_rules": "a guardian's: what it watches",
    "monitoring_rules[].name": "what the rule is called in its signals; may be written `pattern`",
    "monitoring_rules[].event": "the events that are counted: a type or a glob",
    "monitoring_rules[].threshold": "how many are too many; with a baseline, fewer are never told",
    "monitoring_rules[].window": "within what time, such as `5m`, `1h`, `1d`",
    "monitoring_rules[].condition": "CEL over `event` and `data`: which of these events are counted",
    "monitoring_rules[].key": "what is counted apart: `subject`, `source`, `type`, or a field such as `data.user_id`",
    "monitoring_rules[].baseline": "compare with the key's own moving average instead of the threshold alone",
    "monitoring_rules[].deviation": "by how many standard deviations more than the average is unusual",
    "monitoring_rules[].severity": "how bad it is",
    "monitoring_rules[].description": "what it means, for whoever reads the signal",
}


@dataclass(frozen=True, slots=True)
class AgentField:
    """A field of an agent's file; `goals[].name` is the name of each goal."""

    name: str
    type: str
    default: str
    meaning: str


def agent_fields() -> list[AgentField]:
    """Return all fields, those of lists of mappings after the list."""
    return list(_fields(AgentConfig, ""))


def markdown_table() -> str:
    """Return the fields as a table in Markdown."""
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in agent_fields():
        type_, default = (
            field.type.replace("|", "\\|"),
            f"`{field.default}`" if field.default != "required" else "required",
        )
        lines.append(f"| `{field.name}` | {type_} | {default} | {field.meaning} |")
    return "\n".join(lines)


def _fields(model: type[BaseModel], prefix: str) -> list[AgentField]:
    fields = []
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = nested_model(model, name)
        type_ = f"list of {name.replace('_', ' ')}" if inner is not None else _type(info.annotation)
        fields.append(AgentField(path, type_ + _bounds(info), _default(info), MEANINGS.get(path, "")))
        if inner is not None:
            fields += _fields(inner, f"{path}[].")
    return fields


def _default(info: FieldInfo) -> str:
    value: Json = info.get_default(call_default_factory=True, validated_data={})
    return "required" if value is PydanticUndefined else orjson.dumps(value).decode()


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " | ".join(parts) if len(parts) <= MOST_NAMED else "name"
    if origin in (Union, UnionType):
        return _type(next(part for part in parts if part is not NoneType))
    if origin is tuple:
        return f"list of {_type(parts[0])}s"
    if origin is dict:
        return "mapping"
    return {str: "text", int: "whole number", float: "number", bool: "true | false"}.get(annotation, "time")


def _bounds(info: FieldInfo) -> str:
    found = {}
    for each in info.metadata:
        for name in ("ge", "gt", "le"):
            if getattr(each, name, None) is not None:
                found[name] = getattr(each, name)
    low = found.get("ge", found.get("gt"))
    if low is None:
        return ""
    above = "above " if "gt" in found else ""
    return (
        f", {above}{low:g} to {found['le']:,}".replace(",", " ").replace("  ", ", ")
        if "le" in found
        else f" from {low}"
    )
