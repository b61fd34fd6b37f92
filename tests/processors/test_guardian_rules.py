"""Which events a rule counts, under which key, and which rules are in force."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from processors.agents.rules import faults_of
from processors.signals.observations import decode, observations
from processors.signals.rulebook import Rulebook
from processors.signals.rules import KEY_CHARS, MAX_THRESHOLD, Rule, rule_of
from schemas.agent_rules import MonitoringRule
from schemas.agents import AgentConfig
from schemas.envelope import EventEnvelope
from schemas.errors import DecodeError
from schemas.events import AgentActivated, AgentCreated, AgentDeactivated, AgentDeleted, AgentUpdated, Event
from schemas.ids import AgentId, CommandId, EventId, SiteId, agent_id_of
from schemas.module_events import SIGNAL_RAISED, Trigger
from tests.processors.samples import OTHER_SITE, SITE, START_MS, config

GUARD = agent_id_of(SITE, "guard")


def monitoring(**fields: object) -> MonitoringRule:
    given = {"name": "logins", "event": "auth.login.*", "threshold": 6, "key": "data.user", **fields}
    return MonitoringRule.model_validate(given)


def rule(**fields: object) -> Rule:
    return rule_of(GUARD, monitoring(**fields))


def login(data: Any = None, **fields: object) -> Trigger:
    given = {"type": "event", "source": "/auth", "id": "1", "event_type": "auth.login.failed", "time_ms": START_MS}
    return Trigger.model_validate({**given, "data": {"user": "mallory"} if data is None else data, **fields})


def keys(*rules: Rule, **fields: Any) -> list[str]:
    drafts = observations(SITE, "c", login(**fields), rules)
    return [decode(draft.key, draft.value).key for draft in drafts]


def test_an_event_is_counted_under_what_stands_at_the_rule_s_path() -> None:
    assert keys(rule()) == ["mallory"]
    assert keys(rule(key="data.who.id"), data={"who": {"id": 7}}) == ["7"]
    assert keys(rule(key="subject"), subject="u1") == ["u1"]
    assert keys(rule(key=None)) == [""], "without a path, all of a site's together"


@pytest.mark.parametrize("data", [{}, {"user": None}, {"user": {"id": 1}}, {"user": [1]}, [], "mallory", 7])
def test_an_event_without_such_a_value_is_not_counted(data: Any) -> None:
    assert keys(rule(), data=data) == []


def test_long_keys_are_cut_and_stay_apart() -> None:
    long = "x" * 10_000
    (one,), (two,) = keys(rule(), data={"user": long + "1"}), keys(rule(), data={"user": long + "2"})
    assert one != two
    assert len(one) == len(two) == KEY_CHARS


def test_only_events_of_the_rule_s_types_whose_condition_holds_are_counted() -> None:
    assert keys(rule(), event_type="auth.logout") == []
    assert keys(rule(event="event:auth.*")) == ["mallory"]
    conditional = rule(condition="data.say == 'yes'")
    assert keys(conditional, data={"user": "u", "say": "yes"}) == ["u"]
    assert keys(conditional, data={"user": "u", "say": "no"}) == []


def test_signals_are_never_counted() -> None:
    assert keys(rule(event="*"), event_type=SIGNAL_RAISED) == []
    assert keys(rule(event="*"), event_type="guardian.other") == ["mallory"]


def test_what_a_guardian_caused_itself_is_not_counted_unless_it_may_wake_itself() -> None:
    assert keys(rule(), caused_by=GUARD) == []
    assert keys(rule(), caused_by="another") == ["mallory"]
    assert keys(rule_of(GUARD, monitoring(), allow_own=True), caused_by=GUARD) == ["mallory"]


@pytest.mark.parametrize(
    "fields",
    [{"threshold": MAX_THRESHOLD + 1}, {"window": "8d"}],
)
def test_a_rule_beyond_what_can_be_counted_is_refused_when_it_is_saved(fields: dict[str, Any]) -> None:
    (field,) = fields
    with pytest.raises(ValueError, match=f"{field} of the rule 'logins'"):
        rule_of(GUARD, monitoring(**fields))
    faults = faults_of(created(monitoring_rules=[monitoring(**fields)]).config)
    assert [fault.path for fault in faults] == [("monitoring_rules", 0, field)]


def test_series_never_cross_sites_agents_rules_or_keys() -> None:
    other_agent = rule_of(agent_id_of(SITE, "other"), monitoring())
    drafts = [
        *observations(SITE, "c", login(), [rule(), other_agent, rule(name="x"), rule(threshold=7), rule(window="6m")]),
        *observations(SITE, "c", login({"user": "eve"}), [rule()]),
        *observations(OTHER_SITE, "c", login(), [rule()]),
    ]
    assert len({draft.key for draft in drafts}) == len(drafts) == 7


def test_one_event_has_one_mark_and_another_another() -> None:
    def mark(**fields: Any) -> int:
        (draft,) = observations(SITE, "c", login(**fields), [rule()])
        return decode(draft.key, draft.value).mark

    assert mark() == mark(time_ms=START_MS + 1)
    assert len({mark(), mark(id="2"), mark(source="/x")}) == 3


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_any_bytes_are_read_or_refused_with_a_reason(value: bytes, key: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(key, value)


def test_an_observation_in_the_wrong_place_is_refused() -> None:
    (draft,) = observations(SITE, "c", login(), [rule()])
    with pytest.raises(DecodeError, match="its series as its key"):
        decode(b"0" * 32, draft.value)


# --- which rules are in force


def told(event: Event, site: SiteId = SITE, agent: AgentId = GUARD) -> EventEnvelope:
    """Return an envelope of which only who and what matters."""
    return EventEnvelope(
        EventId("e"),
        event.wire,
        site,
        agent,
        1,
        START_MS,
        agent,
        1,
        CommandId("c"),
        0,
        "c",
        "user:x",
        "",
        None,
        0,
        0,
        event,
    )


def created(**fields: object) -> AgentCreated:
    guardian = AgentConfig.model_validate(
        config().model_dump() | {"agent_type": "guardian", "monitoring_rules": [monitoring()]} | fields
    )
    return AgentCreated(id=GUARD, name="guard", type="guardian", domain=None, agent_version=1, config=guardian)


ACTIVATED = AgentActivated(id=GUARD, name="guard")


def names(book: Rulebook, site: SiteId = SITE) -> list[str]:
    return [rule.name for rule in book.in_force(site)]


def test_rules_are_in_force_while_their_agent_is_active() -> None:
    book = Rulebook()
    book.apply(told(created()))
    assert names(book) == []
    book.apply(told(ACTIVATED))
    assert names(book) == ["logins"]
    assert names(book, OTHER_SITE) == []
    book.apply(told(AgentDeactivated(id=GUARD, name="guard")))
    assert names(book) == []
    book.apply(told(ACTIVATED))
    book.apply(told(AgentDeleted(id=GUARD, name="guard")))
    assert names(book) == []


def test_an_update_replaces_the_rules() -> None:
    book = Rulebook()
    book.apply(told(created()))
    book.apply(told(ACTIVATED))
    changes = {"monitoring_rules": [monitoring(name="a").model_dump(mode="json"), monitoring(name="b").model_dump()]}
    book.apply(told(AgentUpdated(id=GUARD, agent_version=2, changes=changes)))
    assert names(book) == ["a", "b"]
    book.apply(told(AgentUpdated(id=GUARD, agent_version=3, changes={"name": "x"})))
    assert names(book) == ["a", "b"]
    book.apply(told(AgentUpdated(id=GUARD, agent_version=4, changes={"allow_self_trigger": True})))
    assert not book.in_force(SITE)[0].ignore_own


def test_rules_that_can_t_be_read_or_applied_do_not_stop_the_others() -> None:
    book = Rulebook()
    book.apply(told(created(monitoring_rules=[monitoring(name="a", window="30d"), monitoring(name="b")])))
    book.apply(told(ACTIVATED))
    assert names(book) == ["b"]
    changes = {"monitoring_rules": [{"name": "of a newer release", "sort": "unknown"}]}
    book.apply(told(AgentUpdated(id=GUARD, agent_version=2, changes=changes)))
    assert names(book) == []


def test_conditions_are_cel() -> None:
    book = Rulebook()
    book.apply(told(created(monitoring_rules=[monitoring(condition="data.tries > 2 && event.source == '/auth'")])))
    book.apply(told(ACTIVATED))
    (logins,) = book.in_force(SITE)
    assert keys(logins, data={"user": "u", "tries": 3}) == ["u"]
    assert keys(logins, data={"user": "u", "tries": 2}) == []
    assert keys(logins, data={"user": "u"}) == [], "what can't be evaluated does not hold"
    assert keys(logins, data={"user": "u", "tries": 3}, source="/x") == []


def test_a_rule_s_signals_wake_its_agent_without_being_named_among_its_triggers() -> None:
    assert SIGNAL_RAISED in created().config.event_patterns
    assert SIGNAL_RAISED not in config().event_patterns


def test_a_rule_is_read_strictly() -> None:
    with pytest.raises(ValidationError, match="window"):
        monitoring(window="five minutes")
