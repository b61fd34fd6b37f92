"""An agent's configuration: what is wrong with it is said with the field's name and how to put it right."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.agents import AgentConfig
from schemas.message import STORED

PLAIN: dict[str, Any] = {"slug": "sales", "name": "Sales", "agent_type": "specialist", "system_prompt": "Sell."}


def problem(**changes: Any) -> str:
    """Return what a person is told: `field: sentence`."""
    with pytest.raises(ValidationError) as caught:
        AgentConfig.model_validate(PLAIN | changes)
    (first, *others) = caught.value.errors()
    assert not others
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def test_the_least_that_must_be_said_is_enough() -> None:
    agent = AgentConfig.model_validate(PLAIN)
    assert (agent.triggers, agent.max_steps_per_run, agent.allowed_tools) == (("manual",), 10, ())


def test_the_type_may_be_written_as_the_specification_does() -> None:
    by_type = {name: value for name, value in PLAIN.items() if name != "agent_type"} | {"type": "analyst"}
    assert AgentConfig.model_validate(by_type).agent_type == "analyst"


def test_a_configuration_is_the_same_after_a_trip_through_the_log() -> None:
    agent = AgentConfig.model_validate(
        PLAIN | {"goals": [{"name": "Win", "deadline": "2026-03-01T12:00:00+01:00"}], "triggers": ["event:a.*"]}
    )
    assert AgentConfig.model_validate_json(agent.encode()) == agent
    assert AgentConfig.model_validate(agent.model_dump(mode="json")) == agent


def test_an_unknown_field_is_named() -> None:
    assert problem(max_step_per_run=3) == "max_step_per_run: Extra inputs are not permitted"


@pytest.mark.parametrize("missing", ["slug", "name", "system_prompt"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AgentConfig.model_validate({name: value for name, value in PLAIN.items() if name != missing})
    assert caught.value.errors()[0]["loc"] == (missing,)


@pytest.mark.parametrize("slug", ["Sales", "a b", "-a", "", "a" * 64, "a\n"])
def test_a_slug_is_fit_for_addresses(slug: str) -> None:
    assert problem(slug=slug).startswith("slug: ")


@pytest.mark.parametrize("trigger", ["event:contact.*", "event:*", "schedule:hourly", "schedule:0 9 * * 1", "webhook"])
def test_known_triggers_are_taken(trigger: str) -> None:
    assert AgentConfig.model_validate(PLAIN | {"triggers": [trigger]}).triggers == (trigger,)


@pytest.mark.parametrize(
    "trigger",
    [
        "contact.created",
        "event:",
        "event:a b",
        "events:a",
        "",
        "event:a\n",
    ],
)
def test_an_unknown_trigger_is_told_how_it_is_written(trigger: str) -> None:
    told = problem(triggers=[trigger])
    assert told.startswith("triggers: ")
    assert repr(trigger) in told
    assert "'event:contact.*'" in told


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        ("schedule:", "'' is not a schedule: write 'hourly'"),
        ("schedule:daily_25am", "'daily_25am' is not a schedule"),
        ("schedule:61 * * * *", "'61' can't be the minute of '61 * * * *': write 0-59, or *"),
        ("schedule:hourly @ Europe/Berln", "did you mean 'Europe/Berlin'?"),
    ],
)
def test_a_wrong_schedule_says_how_to_put_it_right(trigger: str, told: str) -> None:
    assert told in problem(triggers=[trigger])


def test_a_wrong_time_zone_is_named() -> None:
    assert problem(timezone="Mars").startswith("timezone: ")


LISTENS: dict[str, Any] = {"triggers": ["event:a", "event:b.*", "webhook", "manual", "schedule:hourly"]}


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"event:a": "score > 1"}, "'event:a': 'score > 1': column 1: there is no 'score'"),
        ({"webhook": "event.type == 1"}, "'==' can't be applied to (string, int)"),
        ({"a": "true"}, "'a' is no trigger of this agent that brings an event to check; there are 'event:a'"),
        ({"schedule:hourly": "true"}, "no trigger of this agent that brings an event"),
    ],
)
def test_a_wrong_condition_names_its_trigger_and_its_place(conditions: dict[str, str], told: str) -> None:
    said = problem(**LISTENS, trigger_conditions=conditions)
    assert said.startswith("trigger_conditions: ")
    assert told in said


def test_conditions_stand_as_they_were_written() -> None:
    conditions = {"event:b.*": "data.score > 1", "webhook": "has(data.action)"}
    assert (
        AgentConfig.model_validate(PLAIN | LISTENS | {"trigger_conditions": conditions}).trigger_conditions
        == conditions
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_steps_per_run", 0),
        ("max_steps_per_run", 101),
        ("max_tool_calls_per_step", 33),
        ("timeout_seconds", 0),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("max_runs_per_hour", 0),
        ("max_concurrent_runs", 0),
        ("agent_type", "wizard"),
        ("allowed_tools", ["a b"]),
        ("denied_tools", ["(a+)+$"]),
        ("goals", [{"name": "x", "priority": 11}]),
        ("goals", [{"name": "  "}]),
        ("goals", [{"name": "x", "target": float("nan")}]),
        ("system_prompt", "x" * 20_001),
    ],
)
def test_what_is_out_of_bounds_is_named(field: str, value: Any) -> None:
    assert problem(**{field: value}).replace(":", ".").split(".")[0] == field


def test_patterns_and_schedules_are_told_apart() -> None:
    agent = AgentConfig.model_validate(PLAIN | {"triggers": ["event:a.*", "schedule:hourly", "manual", "event:b"]})
    assert (agent.event_patterns, agent.schedule_keys) == (("a.*", "b"), ("hourly @ UTC",))


@pytest.mark.parametrize(
    "changes",
    [
        {"timezone": "Atlantis/Capital"},
        {"triggers": ["schedule:every_blue_moon"]},
        {"triggers": ["event:a"], "trigger_conditions": {"event:a": "of_an_older_release(data)"}},
    ],
)
def test_what_stands_in_the_log_is_read_though_it_would_be_refused_today(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AgentConfig.model_validate(PLAIN | changes)
    agent = AgentConfig.model_validate(PLAIN | changes, context=STORED)
    assert all(" @ " in key for key in agent.schedule_keys)
