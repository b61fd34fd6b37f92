"""How risky a call is, why, and whether a person is asked first."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.governance import SHIPPED
from processors.executions.risk import Risk, assess
from schemas.catalogue import Catalogue, RiskLevel, ToolDefinition
from schemas.events import ApprovalRequested
from schemas.governance import RISKS, EnforcedConstraint, RiskRule, SiteGrants
from schemas.message import Json, JsonObject
from tests.processors.asks import activate, call, context, create, start, thought
from tests.processors.samples import config, tool
from tests.processors.spec import Spec
from tests.processors.test_run_properties import bounded

PAY = tool("pay", parameters={"type": "object"})
PAY_BACK = tool("pay_back", parameters={"type": "object"})


def risk(
    arguments: JsonObject,
    *,
    of: ToolDefinition = PAY,
    site: tuple[RiskRule, ...] = (),
    data: Json = None,
    **changes: Any,
) -> Risk:
    """Return the risk of a call of an agent with these changes, at a site with these rules."""
    grants = SiteGrants(risk_rules=site)
    spec = Spec().given(
        create(config(**changes)), activate(), start(data=data), context(Catalogue(tools=(of,)), site=grants)
    )
    return assess(spec.stream.agent, spec.run, of, arguments)


def rule(tool_: str = "pay", level: RiskLevel = "high", **given: Any) -> RiskRule:
    return RiskRule(tool=tool_, risk=level, **given)


def test_without_rules_a_tool_is_as_risky_as_it_says() -> None:
    assert risk({}) == Risk("low", "", gated=False)
    assert risk({}, of=tool("send", risk="high")) == Risk("high", "Send is of high risk", gated=True)


@pytest.mark.parametrize(("level", "threshold"), [(a, b) for a in RISKS for b in RISKS])
def test_a_person_is_asked_from_the_agent_s_threshold_on_and_always_for_what_is_critical(
    level: RiskLevel, threshold: RiskLevel
) -> None:
    found = risk({}, of=tool("act", risk=level), approval_threshold=threshold)
    assert found.gated == (level == "critical" or RISKS.index(level) >= RISKS.index(threshold))
    assert bool(found.explanation) or not found.gated


def test_a_dangerous_tool_asks_whatever_the_threshold() -> None:
    found = risk({}, of=tool("wipe", is_dangerous=True), approval_threshold="critical")
    assert (found.level, found.gated) == ("high", True)
    assert found.explanation == "Wipe always needs a person's consent"


@pytest.mark.parametrize(
    ("glob", "name", "holds"),
    [
        ("pay", "pay", True),
        ("pay", "pay_back", False),
        ("pay*", "pay_back", True),
        ("*_back", "pay_back", True),
        ("*y_b*", "pay_back", True),
        ("ay", "pay", False),
        ("p.y", "pay", False),
        ("*", "pay", True),
    ],
)
def test_a_rule_s_glob_is_anchored_and_has_as_many_stars_as_it_likes(glob: str, name: str, holds: bool) -> None:
    assert (risk({}, of=tool(name), risk_rules=(rule(glob),)).level == "high") == holds


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [
        ("gte", 10, True),
        ("gte", 9.99, False),
        ("gt", 10, False),
        ("gt", 10.5, True),
        ("lte", 10, True),
        ("lt", 10, False),
        ("lt", -1, True),
        ("gte", list(range(10)), True),
        ("gte", list(range(9)), False),
        ("gte", "1000000", True),
        ("gte", True, True),
        ("gte", {"amount": 1}, True),
        ("gte", None, False),
        ("gte", 10**40, True),
    ],
)
def test_a_threshold_compares_numbers_and_lengths_and_is_careful_with_the_rest(
    comparison: Any, value: Json, holds: bool
) -> None:
    limit = rule(argument="amount", threshold=10, comparison=comparison)
    assert (risk({"amount": value}, risk_rules=(limit,)).level == "high") == holds


def test_a_threshold_finds_its_value_wherever_it_stands() -> None:
    limit = rule(argument="lines.amount", threshold=10)
    assert risk({"lines": [{"amount": 1}, {"amount": 11}]}, risk_rules=(limit,)).level == "high"
    assert risk({"lines": [{"amount": 1}, {}]}, risk_rules=(limit,)).level == "low"
    assert risk({"lines": {"amount": 11}}, risk_rules=(limit,)).level == "high"
    assert risk({}, risk_rules=(limit,)).level == "low"


def test_a_rule_for_an_argument_without_a_threshold_holds_where_it_is_given() -> None:
    given_ = rule(argument="bcc")
    assert risk({"bcc": "x"}, risk_rules=(given_,)).level == "high"
    assert risk({}, risk_rules=(given_,)).level == "low"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("arguments.to == 'ann'", True),
        ("arguments.to != 'ann'", False),
        ("tool == 'pay' && agent.slug == 'sales' && agent.type == 'specialist'", True),
        ("trigger.type == 'manual' && trigger.data.plan == 'free'", True),
        ("trigger.data.plan == 'paid'", False),
        ("arguments.nothing == 1", True),
        ("arguments.to > 5", True),
        ("trigger.data.nothing.at.all", True),
    ],
)
def test_a_condition_that_does_not_hold_sets_a_rule_aside_and_one_that_cant_be_said_does_not(
    condition: str, holds: bool
) -> None:
    found = risk({"to": "ann"}, data={"plan": "free"}, risk_rules=(rule(condition=condition),))
    assert (found.level == "high") == holds


def test_the_highest_risk_counts_and_every_reason_is_told_once() -> None:
    found = risk(
        {"amount": 5_000, "to": "ann"},
        site=(rule(level="medium", explanation="money leaves the house"),),
        risk_rules=(
            rule(level="critical", argument="amount", threshold=1_000),
            rule(level="low", explanation="money leaves the house"),
            rule(level="high", condition="arguments.to == 'bob'", explanation="bob is not to be trusted"),
        ),
    )
    assert (found.level, found.gated) == ("critical", True)
    assert found.explanation == (
        "money leaves the house; a rule holds 'pay' to be of critical risk where 'amount' is at or above 1000"
    )


def test_a_rule_can_t_make_a_risky_tool_harmless() -> None:
    assert risk({}, of=tool("send", risk="high"), risk_rules=(rule("send", "low"),)).level == "high"


def test_a_constraint_asks_a_person_and_says_its_words() -> None:
    never = EnforcedConstraint(text="Never pay without asking.", tools=("pay*",), condition="arguments.amount > 0")
    found = risk({"amount": 1}, enforced_constraints=(never,), approval_threshold="critical")
    assert found == Risk("high", "Never pay without asking.", gated=True)
    assert not risk({"amount": 0}, enforced_constraints=(never,)).gated
    assert not risk({"amount": 1}, of=tool("look"), enforced_constraints=(never,)).gated


def test_who_is_asked_reads_why() -> None:
    spec = Spec().given(create(config(risk_rules=(rule(argument="amount", threshold=1_000),))), activate(), start())
    spec = spec.given(context(Catalogue(tools=(PAY,))))
    spec.when(thought(call("a", "pay", amount=999))).then("step.thought 1", "tool.requested a")
    asked = spec.when(thought(call("a", "pay", amount=1_000))).then("step.thought 1", "approval.requested a")
    said = asked.the(ApprovalRequested)
    assert (said.risk_level, said.action_description) == ("high", "Pay: amount='1000'")
    assert "'amount' is at or above 1000" in said.risk_explanation


# What the specification's rules are about: none of these tools is ours, and each may be a site's own.
@pytest.mark.parametrize(
    ("name", "arguments", "level"),
    [
        ("email_send", {"to": [f"{n}@example.com" for n in range(10)]}, "critical"),
        ("email_send", {"to": ["a@example.com"]}, "low"),
        ("crm_delete_contact", {}, "critical"),
        ("crm_delete", {}, "critical"),
        ("crm_undelete_x", {}, "low"),
        ("data_export_all", {}, "high"),
        ("settings_update", {}, "high"),
        ("crm_get_contact", {}, "low"),
    ],
)
def test_the_shipped_rules(name: str, arguments: JsonObject, level: RiskLevel) -> None:
    assert risk(arguments, of=tool(name), site=SHIPPED).level == level


_levels = st.sampled_from(get_args(RiskLevel))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)
_rules = st.builds(
    RiskRule,
    tool=st.sampled_from(("*", "pay", "p*y", "other")),
    risk=_levels,
    argument=st.none() | st.sampled_from(("a", "a.b", "b.a")),
    comparison=st.sampled_from(("gt", "gte", "lt", "lte")),
    threshold=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    condition=st.none() | st.sampled_from(("arguments.a > 1", "arguments.b == 'x'", "tool == 'pay'", "arguments.a.b")),
).filter(lambda each: each.threshold is None or each.argument is not None)


@bounded
@given(_levels, st.lists(_rules, max_size=4), st.dictionaries(st.sampled_from(["a", "b"]), _json, max_size=2))
def test_rules_only_ever_raise_a_risk_and_never_fail(
    own: RiskLevel, rules: list[RiskRule], arguments: JsonObject
) -> None:
    paying = tool("pay", risk=own, parameters={"type": "object"})
    levels = [risk(arguments, of=paying, risk_rules=tuple(rules[:n])) for n in range(len(rules) + 1)]
    assert [RISKS.index(each.level) for each in levels] == sorted(RISKS.index(each.level) for each in levels)
    assert levels[0].level == own
    assert all(each.explanation for each in levels if each.gated)
