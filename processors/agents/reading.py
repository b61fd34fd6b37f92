"""From what a person wrote to a configuration, or to everything that is wrong with it, at once.

Names may be written as in the specification (`systemPrompt`, `allowedTools`, `type`) or as ours (`system_prompt`).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from processors.agents.rules import expression_faults_of, faults_of, nearest, template_faults_of
from schemas.agent_rules import DelegationRule, MonitoringRule
from schemas.agents import AgentConfig, Example, Goal
from schemas.errors import Fault, InvalidAgentError
from schemas.governance import EnforcedConstraint, RiskRule
from schemas.message import Json, JsonObject

FAULTS_TOLD = 50
SLUG_CHARS = 63

# Other names under which the specification has a field.
OTHER_NAMES: Mapping[type[BaseModel], Mapping[str, str]] = {
    AgentConfig: {"type": "agent_type"},
    Goal: {"success_metric": "metric", "target_value": "target"},
    MonitoringRule: {"pattern": "name"},
    RiskRule: {"field": "argument"},
}
# What people look for here, and where it is.
ELSEWHERE = {
    "is_active": "activation is not configuration: `dramac agents activate` and `deactivate` do it",
    "active": "activation is not configuration: `dramac agents activate` and `deactivate` do it",
    "trigger_events": "list events under triggers, as in `triggers: [event:crm.contact.created]`",
    "trigger_schedule": "list schedules under triggers, as in `triggers: [schedule:daily_9am]`",
    "version": "versions are counted by the system: leave it out",
    "site_id": "an agent belongs to the site of DRAMAC_SITE: leave it out",
    "id": "an agent's id follows from its site and slug: leave it out",
}
_NESTED: tuple[type[BaseModel], ...] = (
    Goal,
    Example,
    DelegationRule,
    MonitoringRule,
    RiskRule,
    EnforcedConstraint,
)
_PATTERNS = {
    "slug": "a slug has small letters, digits, _ and -, at most 63, such as 'sales_dev'",
    "window": "a window is written as a number and s, m, h or d, such as '5m'",
    "key": "a key is 'subject', 'source', 'type' or the way to a field, such as 'data.user_id'",
    "event": "write a type of event, or a glob of types, such as 'auth.login.*'",
}


def read_config(told: Json, templates: Collection[str] | None = None) -> AgentConfig:
    """Return the configuration that `told` describes, a mapping of fields as YAML or JSON gives it.

    It may name only report templates that are among `templates`; None, if nobody knows which there are.

    Raises:
        InvalidAgentError: it is none; it has every fault that was found.
    """
    if not isinstance(told, Mapping):
        raise InvalidAgentError([Fault((), "an agent is a mapping of fields, such as `slug: sdr`")])
    faults: list[Fault] = []
    spelled = _spelled(told, AgentConfig, (), faults)
    _complete(spelled)
    config: AgentConfig | None = None
    try:
        config = AgentConfig.model_validate(spelled)
    except ValidationError as error:
        faults += [_fault(dict(each)) for each in error.errors(include_url=False)]
    if config is not None:
        faults += _unwritable(config)
        faults += faults_of(config) + expression_faults_of(config)
        faults += [] if templates is None else template_faults_of(config, templates)
    if faults or config is None:
        raise InvalidAgentError(faults[:FAULTS_TOLD])
    return config


def _unwritable(config: AgentConfig) -> list[Fault]:
    """Return the fields with texts that no log takes, which YAML can write all the same."""
    faults = []
    for name in AgentConfig.model_fields:
        try:
            config.model_dump_json(include={name})
        except ValueError:
            faults.append(Fault((name,), "half of a character (a lone surrogate) stands in it: leave it out"))
    return faults


def field_name(written: str, model: type[BaseModel] = AgentConfig) -> str:
    """Return the name of our field for a name as somebody wrote it; the same where there is no such field."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written).lower()
    for name in (written, snake):
        if name in model.model_fields:
            return name
        if name in OTHER_NAMES.get(model, {}):
            return OTHER_NAMES[model][name]
    return written


def _spelled(
    told: Mapping[Any, Json], model: type[BaseModel], path: tuple[str | int, ...], faults: list[Fault]
) -> JsonObject:
    """Return the fields under our own names; what is no field is a fault."""
    spelled: JsonObject = {}
    for written, value in told.items():
        name = field_name(str(written), model)
        if name not in model.model_fields:
            faults.append(Fault((*path, str(written)[:80]), _no_such_field(str(written), model)))
        elif name in spelled:
            faults.append(Fault((*path, str(written)), f"this is {name!r} once more: give it once"))
        else:
            spelled[name] = _inner(value, model, (*path, name), faults)
    return spelled


def _inner(value: Json, model: type[BaseModel], path: tuple[str | int, ...], faults: list[Fault]) -> Json:
    inner = nested_model(model, str(path[-1]))
    if inner is None or not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return value
    return [
        _spelled(item, inner, (*path, at), faults) if isinstance(item, Mapping) else item
        for at, item in enumerate(value)
    ]


def nested_model(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """Return the model of a list's items, where a field is a list of models."""
    info = model.model_fields.get(field)
    inner = get_args(info.annotation)[:1] if info is not None else ()
    return inner[0] if inner and inner[0] in _NESTED else None


def _complete(spelled: JsonObject) -> None:
    """Add what follows from the rest: a slug from the name, and no system prompt where a personality says it all."""
    name = spelled.get("name")
    if "slug" not in spelled and isinstance(name, str):
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:SLUG_CHARS]
        if slug:
            spelled["slug"] = slug
    if "system_prompt" not in spelled and spelled.get("personality"):
        spelled["system_prompt"] = ""


def _no_such_field(written: str, model: type[BaseModel]) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written).lower()
    if model is AgentConfig and snake in ELSEWHERE:
        return f"there is no such field: {ELSEWHERE[snake]}"
    known = [*model.model_fields, *OTHER_NAMES.get(model, {})]
    return f"there is no such field{nearest(snake, known) or '; there are ' + ', '.join(sorted(model.model_fields))}"


def _fault(error: dict[str, Any]) -> Fault:
    path = tuple(part for part in error["loc"] if part not in ("agent_type.type",))
    return Fault(path, _message(error, str(path[-1]) if path else ""))


def _message(error: dict[str, Any], field: str) -> str:  # noqa: C901 - one case a kind of fault
    ctx, given = error.get("ctx", {}), error.get("input")
    match error["type"]:
        case "missing":
            return "this is missing, and every agent needs it" if len(error["loc"]) == 1 else "this is missing"
        case "literal_error":
            expected = re.findall(r"'([^']*)'", ctx["expected"])
            return f"{given!r:.80} is not one of {', '.join(expected)}{nearest(str(given), expected)}"
        case "string_pattern_mismatch":
            fix = _PATTERNS.get(field, "write names with letters, digits, '.', '_', '-' and '*', such as 'crm_*'")
            return f"{given!r:.80} does not fit: {fix}"
        case "greater_than_equal":
            return f"must be at least {ctx['ge']}, and is {given!r:.40}"
        case "less_than_equal":
            return f"may be at most {ctx['le']}, and is {given!r:.40}"
        case "greater_than":
            return f"must be more than {ctx['gt']}, and is {given!r:.40}"
        case "tuple_type":
            return f"must be a list, such as [one, two], and is {given!r:.80}"
        case "model_type" | "dict_type":
            return f"must be a mapping of fields, and is {given!r:.80}"
        case "string_type":
            return f"must be a text, and is {given!r:.80}: put it in quotes"
        case "string_too_long" | "too_long":
            return (
                f"may have {ctx['max_length']} {'characters' if 'string' in error['type'] else 'items'}, and has more"
            )
        case "string_too_short":
            return "must not be empty"
        case "value_error":
            return str(ctx["error"])
        case _:
            said = str(error["msg"])
            return f"{said[:1].lower()}{said[1:]}, and is {given!r:.80}"
