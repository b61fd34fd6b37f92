"""Which agents an event wakes: globs and conditions."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.triggers.conditions import admits, patterns_of
from processors.triggers.matching import REMEMBERED_TYPES, Candidate, Index, Pattern, wakes
from schemas.conditions import compile_condition
from schemas.ids import AgentId
from schemas.message import STORED
from schemas.module_events import Trigger
from tests.processors.samples import START_MS, config


@pytest.mark.parametrize(
    ("pattern", "event_type"),
    [
        ("contact.*", "contact.created"),
        ("contact.*", "crm.contact.created"),
        ("contact.created", "crm.contact.created"),
        ("crm.contact.created", "crm.contact.created"),
        ("crm.*", "crm.contact.created"),
        ("*.created", "crm.contact.created"),
        ("*", "crm.contact.created"),
        ("auth.login.*", "auth.login.failed"),
        ("form.submitted", "form.submitted"),
        ("ai.execution.*", "ai.execution.completed"),
        ("ai.*", "ai.agent.activated"),
    ],
)
def test_a_pattern_that_wakes(pattern: str, event_type: str) -> None:
    assert wakes(pattern, event_type)


@pytest.mark.parametrize(
    ("pattern", "event_type"),
    [
        ("contact.*", "crm.old.contact.created"),  # one part is the module's name, not two
        ("contact.*", "contacts.created"),
        ("crm.contact.created", "contact.created"),  # whoever names the module means it
        ("created", "contact"),
        ("contact.*", "contact"),
        ("*", "ai.execution.completed"),  # what agents do wakes only who asks for it
        ("execution.*", "ai.execution.completed"),
        ("*.completed", "ai.execution.completed"),
        ("ai*", "ai.execution.completed"),
        ("ai.execution.*", "execution.completed"),
    ],
)
def test_a_pattern_that_does_not_wake(pattern: str, event_type: str) -> None:
    assert not wakes(pattern, event_type)


def plainly(pattern: str, event_type: str) -> bool:
    """The rule once more, said another way."""
    expression = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    if event_type.startswith("ai."):
        return pattern[:3] == "ai." and expression.fullmatch(event_type) is not None
    shorter = event_type.split(".", 1)[1:]
    return any(expression.fullmatch(name) is not None for name in [event_type, *shorter])


parts = st.sampled_from(["crm", "contact", "created", "ai", "*", "form", "a"])
types = st.lists(st.sampled_from(["crm", "contact", "created", "ai", "form"]), min_size=1, max_size=4).map(".".join)
globs = st.lists(parts, min_size=1, max_size=4).map(".".join)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 3), globs, st.booleans()), max_size=8), types)
def test_an_index_finds_what_asking_each_agent_finds(patterns: list[tuple[int, str, bool]], event_type: str) -> None:
    condition = compile_condition("data.n > 1")
    told: dict[AgentId, list[Pattern]] = {}
    for number, glob, conditional in patterns:
        told.setdefault(AgentId(str(number)), []).append(Pattern(glob, condition if conditional else None))
    index = Index.of(told)
    expected = {
        agent_id: all(p.condition is not None for p in own if plainly(p.glob, event_type))
        for agent_id, own in told.items()
        if any(plainly(p.glob, event_type) for p in own)
    }
    for _ in range(2):  # once looked up, once remembered
        found = index.candidates(event_type)
        assert {candidate.agent_id: bool(candidate.conditions) for candidate in found} == expected


def test_made_up_types_do_not_fill_the_memory() -> None:
    index = Index.of({AgentId("a"): [Pattern("contact.*")]})
    for number in range(2 * REMEMBERED_TYPES):
        assert index.candidates(f"contact.t{number}") == (Candidate(AgentId("a"), ()),)
    assert len(index._found) == REMEMBERED_TYPES


def test_a_condition_goes_with_its_pattern() -> None:
    triggers = ("event:contact.*", "event:deal.won", "manual", "webhook", "schedule:hourly")
    patterns = patterns_of(triggers, {"event:contact.*": "data.score > 50"})
    assert [(p.glob, p.condition.text if p.condition else None) for p in patterns] == [
        ("contact.*", "data.score > 50"),
        ("deal.won", None),
    ]


def test_a_condition_that_cant_be_read_wakes_nobody() -> None:
    """It was saved by a release that could; to wake the agent for every event would be worse."""
    assert patterns_of(("event:a", "event:b"), {"event:a": "no_longer_known(data)"}) == (Pattern("b"),)


def test_a_webhooks_condition_picks_the_right_deliveries() -> None:
    agent = config(triggers=("webhook",), trigger_conditions={"webhook": "data.action == 'opened'"})

    def hook(data: Any) -> Trigger:
        return Trigger(type="webhook", source="/hooks/1", id="d1", event_type="issues", time_ms=START_MS, data=data)

    assert admits(agent, hook({"action": "opened"}))
    assert not admits(agent, hook({"action": "closed"}))
    assert not admits(agent, hook(None))
    assert admits(config(triggers=("webhook",)), hook(None))
    unread = type(agent).model_validate(
        agent.model_dump(mode="json") | {"trigger_conditions": {"webhook": "unknown(1)"}}, context=STORED
    )
    assert not admits(unread, hook({"action": "opened"}))
