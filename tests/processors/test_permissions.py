"""Rights, modules, rates, sizes and constraints: what else stands between an agent and a tool."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.executions.policy import ARGUMENTS_LIMIT_BYTES, MINUTE_MS
from processors.runtime.ledger import HOUR_MS
from processors.tools.registry import BUILTIN
from schemas.catalogue import Catalogue
from schemas.commands import StartExecution
from schemas.events import ExecutionStarted, ToolDenied, ToolRequested
from schemas.governance import EnforcedConstraint, Requester, SiteGrants
from schemas.message import JsonObject
from tests.processors.asks import activate, approve, call, context, create, result, start, thought, update
from tests.processors.samples import APPROVING, USER, WORKER, config, tool
from tests.processors.spec import SECOND_MS, Ask, Spec
from tests.processors.test_run_properties import bounded

NEEDY = tool("needy", requires_permissions=("read_contacts", "send_emails"))
CRM = tool("crm_find", requires_modules=("crm",))
RATED = tool("rated", rate_limit_per_minute=3)
HOURLY = tool("hourly", rate_limit_per_minute=2, rate_limit_per_hour=3)
ASKED = tool("asked", risk="high", rate_limit_per_minute=1)
FREE = tool("free", parameters={"type": "object"})
TOOLS = Catalogue(tools=(NEEDY, CRM, RATED, HOURLY, ASKED, FREE))
BOTH = ("read_contacts", "send_emails")


def thinking(asked: Ask | None = None, actor: str = WORKER, site: SiteGrants | None = None, **changes: Any) -> Spec:
    begun = Spec().given(create(config(**changes)), activate()).given(asked or start(), actor=actor)
    return begun.given(context(TOOLS, site=site))


def by(actor: str, *rights: str) -> StartExecution:
    """A run for somebody who has these rights."""
    return StartExecution(
        trigger=start().trigger, requester=Requester.model_validate({"actor": actor, "rights": rights})
    )


# --- rights ---------------------------------------------------------------------------------------------------------


def test_without_a_word_on_rights_an_agent_has_its_site_s() -> None:
    thinking().when(thought(call("a", "needy"))).then("step.thought 1", "tool.requested a")


@pytest.mark.parametrize(
    ("lacking", "spec"),
    [
        ("this agent", lambda: thinking(permissions=("read_contacts",))),
        ("this site", lambda: thinking(site=SiteGrants(permissions=("send_emails",)))),
        ("who asked for this run", lambda: thinking(by(USER, "read_contacts"), USER)),
    ],
)
def test_a_right_counts_only_if_agent_site_and_requester_have_it(lacking: str, spec: Any) -> None:
    denied = spec().when(thought(call("a", "needy")))
    denied.then("step.thought 1", "tool.denied a (missing_permission)", "step.observed 2")
    assert lacking in denied.the(ToolDenied).message


@bounded
@given(*[st.none() | st.lists(st.sampled_from((*BOTH, "send_sms")), unique=True)] * 3)
def test_rights_are_those_that_all_three_have(
    agent: list[str] | None, site: list[str] | None, person: list[str] | None
) -> None:
    asked = None if person is None else by("user:ann", *person)
    spec = thinking(
        asked,
        WORKER if person is None else USER,
        None if site is None else SiteGrants.model_validate({"permissions": site}),
        permissions=None if agent is None else tuple(agent),
    )
    spec = spec.when(thought(call("a", "needy")))
    may = all(held is None or set(BOTH) <= set(held) for held in (agent, site, person))
    assert bool(spec.all(ToolRequested)) == may
    assert bool(spec.all(ToolDenied)) != may


def test_a_person_works_for_themselves_whatever_they_say_of_somebody_else() -> None:
    spec = thinking(by("user:admin", *BOTH), USER)
    assert spec.the(ExecutionStarted).requester == Requester(actor=USER)
    spec.when(thought(call("a", "needy"))).then(
        "step.thought 1", "tool.denied a (missing_permission)", "step.observed 2"
    )


def test_a_person_of_whose_rights_nothing_is_said_has_none() -> None:
    spec = thinking(start(), USER)
    spec.when(thought(call("a", "needy"), call("b", "free"))).then(
        "step.thought 1", "tool.denied a (missing_permission)", "tool.requested b"
    )


def test_rights_are_those_of_now_also_in_a_run_that_began_with_more() -> None:
    less = thinking().given(update(permissions=()), actor=USER)
    less.when(thought(call("a", "needy"))).then(
        "step.thought 1", "tool.denied a (missing_permission)", "step.observed 2"
    )


def test_a_module_that_the_site_does_not_have_is_named() -> None:
    denied = thinking(site=SiteGrants()).when(thought(call("a", "crm_find")))
    denied.then("step.thought 1", "tool.denied a (missing_module)", "step.observed 2")
    assert "'crm'" in denied.the(ToolDenied).message
    thinking(site=SiteGrants(modules=("crm",))).when(thought(call("a", "crm_find"))).then(
        "step.thought 1", "tool.requested a"
    )


def test_the_requester_of_a_delegated_run_is_the_one_of_the_run_that_delegates() -> None:
    """What a managed agent does for somebody, it does with their rights: the start that is sent on says whose."""
    child = thinking(by("user:ann", "read_contacts"), "agent:sales")
    assert child.the(ExecutionStarted).requester == Requester(actor="user:ann", rights=("read_contacts",))
    child.when(thought(call("a", "needy"))).then(
        "step.thought 1", "tool.denied a (missing_permission)", "step.observed 2"
    )


OURS = Catalogue(tools=BUILTIN)


@pytest.mark.parametrize(
    ("name", "arguments", "right"),
    [
        ("data_query", {"entity_type": "contacts"}, "read_contacts"),
        ("data_query", {"entity_type": "notes"}, "read_contacts"),
        ("data_query", {"entity_type": "emails"}, "read_contacts"),
        ("data_aggregate", {"entity_type": "contacts", "metric": "count", "group_by": "email"}, "read_contacts"),
        ("notify_user", {"message": "Look.", "channel": "email"}, "send_emails"),
        ("notify_user", {"message": "Look.", "channel": "sms"}, "send_sms"),
    ],
)
def test_no_tool_is_a_way_around_a_right_that_another_needs(name: str, arguments: JsonObject, right: str) -> None:
    begun = Spec().given(create(config(allowed_tools=("*",))), activate())
    for asked, allowed in ((by(USER), False), (by(USER, right), True)):
        said = begun.given(asked, actor=USER).given(context(OURS)).when(thought(call("a", name, **arguments)))
        assert isinstance(said.said[1], ToolRequested if allowed else ToolDenied), said.lines
        if not allowed:
            assert f"needs '{right}'; who asked for this run lacks it" in said.the(ToolDenied).message


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("data_query", {"entity_type": "executions"}),
        ("data_aggregate", {"entity_type": "usage", "metric": "count"}),
        ("notify_user", {"message": "Look."}),
    ],
)
def test_what_guards_nothing_needs_no_right(name: str, arguments: JsonObject) -> None:
    begun = Spec().given(create(config(allowed_tools=("*",))), activate()).given(by(USER), actor=USER)
    begun.given(context(OURS)).when(thought(call("a", name, **arguments))).then("step.thought 1", "tool.requested a")


def test_a_right_by_an_argument_is_asked_before_the_argument_is_checked() -> None:
    begun = Spec().given(create(config(allowed_tools=("*",))), activate()).given(by(USER), actor=USER)
    for odd in (["contacts"], {"contacts": 1}, 7, None):
        said = begun.given(context(OURS)).when(thought(call("a", "data_query", entity_type=odd)))
        assert said.the(ToolDenied).reason == "invalid_arguments"


def test_tools_of_ours_that_reach_people_or_the_world_need_a_right() -> None:
    free = {each.name for each in BUILTIN if not each.requires_permissions}
    needy = ("crm_get_contact", "crm_update_contact", "email_send", "task_create", "web_scrape", "trigger_workflow")
    assert not free & set(needy)


# --- rates ----------------------------------------------------------------------------------------------------------


def call_again(spec: Spec, name: str, tool_name: str = "rated", later_ms: int = SECOND_MS) -> Spec:
    """The model calls once more, and is answered if the call is made."""
    spec = spec.when(thought(call(name, tool_name)), later_ms=later_ms)
    return spec.given(result(name), later_ms=0) if isinstance(spec.said[-1], ToolRequested) else spec


def test_a_rate_rolls_with_time_and_the_model_is_told_when_to_try_again() -> None:
    spec = thinking(max_steps_per_run=50)
    for name in "abc":
        spec = call_again(spec, name)
    denied = spec.when(thought(call("d", "rated")))
    denied.then("step.thought 4", "tool.denied d (rate_limited)", "step.observed 5")
    assert denied.the(ToolDenied).message == "'rated' may be called 3 times a minute: try again in 57 seconds."
    again = denied.when(thought(call("e", "rated")), later_ms=57_000)
    again.then("step.thought 5", "tool.requested e")
    denied.when(thought(call("e", "rated")), later_ms=56_999).then(
        "step.thought 5", "tool.denied e (rate_limited)", "step.observed 6"
    )


def test_the_calls_of_one_step_count_too() -> None:
    many = thinking(max_tool_calls_per_step=9).when(thought(*(call(name, "rated") for name in "abcd")))
    many.then(
        "step.thought 1",
        "tool.requested a",
        "tool.requested b",
        "tool.requested c",
        "tool.denied d (rate_limited)",
    )


def test_a_rate_is_of_the_agent_not_of_a_run() -> None:
    spec = thinking()
    for name in "abc":
        spec = call_again(spec, name)
    other = spec.given(start("another"), context(TOOLS, body=False))
    other.when(thought(call("x", "rated"))).then("step.thought 1", "tool.denied x (rate_limited)", "step.observed 2")


def test_an_hour_counts_beside_the_minute() -> None:
    spec = thinking(max_steps_per_run=50, timeout_seconds=3_600)
    for name in "abc":
        spec = call_again(spec, name, "hourly", MINUTE_MS)
    denied = spec.when(thought(call("d", "hourly")), later_ms=MINUTE_MS)
    denied.then("step.thought 4", "tool.denied d (rate_limited)", "step.observed 5")
    assert "3 times an hour" in denied.the(ToolDenied).message


def test_a_call_that_waits_for_a_person_counts_when_it_is_made() -> None:
    spec = thinking().given(thought(call("a", "asked"), call("b", "asked")))
    one = spec.when(approve("a"), actor=APPROVING).then("approval.resolved a", "tool.requested a")
    two = one.when(approve("b"), actor=APPROVING).then("approval.resolved b", "tool.denied b (rate_limited)")
    two.when(result("a")).then("tool.completed a", "step.observed 2")


def test_what_was_called_is_forgotten_when_nobody_can_ask_for_it_any_more() -> None:
    spec = thinking(max_steps_per_run=50)
    for at, name in enumerate("abcdef"):
        spec = call_again(spec, name, later_ms=at * 20_000)
    assert len(spec.stream.agent.tool_calls["rated"]) <= 3
    assert "free" not in call_again(spec, "g", "free").stream.agent.tool_calls


@bounded
@given(st.lists(st.integers(0, 90_000), max_size=12))
def test_no_minute_and_no_hour_ever_has_more_calls_than_its_rate(gaps: Sequence[int]) -> None:
    spec, made = thinking(max_steps_per_run=50, timeout_seconds=3_600), list[int]()
    for at, gap in enumerate(gaps):
        spec = spec.when(thought(call(f"c{at}", "hourly")), later_ms=gap)
        if isinstance(spec.said[-1], ToolRequested):
            made.append(spec.stream.at_ms)
            spec = spec.given(result(f"c{at}"), later_ms=0)
        else:  # and none is refused that could have been made
            now = spec.stream.at_ms
            assert sum(now - MINUTE_MS < then for then in made) >= 2 or sum(now - HOUR_MS < then for then in made) >= 3
    for now in made:
        assert sum(now - MINUTE_MS < then <= now for then in made) <= 2
        assert sum(now - HOUR_MS < then <= now for then in made) <= 3


# --- sizes and constraints ------------------------------------------------------------------------------------------


def test_arguments_are_bounded() -> None:
    room = ARGUMENTS_LIMIT_BYTES - len('{"id":""}')
    spec = thinking()
    spec.when(thought(call("a", "free", id="x" * room))).then("step.thought 1", "tool.requested a")
    denied = spec.when(thought(call("a", "free", id="x" * (room + 1))))
    denied.then("step.thought 1", "tool.denied a (arguments_too_large)", "step.observed 2")
    assert "65537 bytes" in denied.the(ToolDenied).message


NEVER = EnforcedConstraint(
    text="Never write to the press.",
    tools=("free",),
    condition="arguments.to.endsWith('@press.example')",
    effect="deny",
)


def test_a_constraint_can_forbid_and_the_model_is_told_its_words() -> None:
    spec = thinking(enforced_constraints=(NEVER,))
    denied = spec.when(thought(call("a", "free", to="ann@press.example")))
    denied.then("step.thought 1", "tool.denied a (constraint)", "step.observed 2")
    assert denied.the(ToolDenied).message == "This is forbidden: Never write to the press."
    spec.when(thought(call("a", "free", to="ann@shop.example"))).then("step.thought 1", "tool.requested a")
    spec.when(thought(call("a", "needy"))).then("step.thought 1", "tool.requested a")


@pytest.mark.parametrize("arguments", [{}, {"to": None}, {"to": 7}, {"to": ["ann@press.example"]}])
def test_a_constraint_that_cant_be_evaluated_holds(arguments: dict[str, Any]) -> None:
    spec = thinking(enforced_constraints=(NEVER,))
    spec.when(thought(call("a", "free", **arguments))).then(
        "step.thought 1", "tool.denied a (constraint)", "step.observed 2"
    )


def test_the_model_is_told_what_it_is_held_to() -> None:
    system = thinking(enforced_constraints=(NEVER,)).run.opening[0].content
    assert "Never write to the press." in system
