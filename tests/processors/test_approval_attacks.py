"""Grants that are no grants: each is refused, as an event, and what was asked for is done at most once."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.executions.risk import APPROVAL_MS
from schemas.agents import AgentConfig
from schemas.commands import ResolveApproval
from schemas.events import ApprovalRequested, ApprovalResolved, CommandRejected, ToolRequested
from schemas.message import JsonObject
from tests.processors.asks import activate, approve, call, context, create, expire, result, start, thought
from tests.processors.fakes import Owner, StubModel, StubTools, history, lines, new_log, process, steps, tell, until
from tests.processors.samples import APPROVING, OTHER_SITE, SITE, USER, config
from tests.processors.spec import SECOND_MS, Ask, Spec
from tests.processors.test_run_properties import bounded

OTHER = "user:cho"

# A run that a person asked for, and a call of it that waits.
ASKED_BY_A_PERSON = Spec().given(create(), activate()).given(start(), actor=USER).given(context())
PENDING = ASKED_BY_A_PERSON.given(thought(call("a", "wire_money", id="7")))
TELLING = (
    Spec()
    .given(create(config(on_denial="tell", on_expiry="deny")), activate(), start(), context())
    .given(thought(call("a", "wire_money", id="7")))
)
REFUSALS: dict[str, Callable[[], Spec]] = {
    "not_pending, resolved twice": lambda: PENDING.given(approve("a"), actor=APPROVING).when(
        approve("a"), actor=APPROVING
    ),
    "not_pending, granted after it was denied": lambda: TELLING.given(
        approve("a", approved=False), actor=APPROVING
    ).when(approve("a"), actor=OTHER),
    "not_pending, granted after it expired": lambda: TELLING.given(expire("a"), later_ms=APPROVAL_MS).when(
        approve("a"), actor=OTHER, later_ms=-APPROVAL_MS
    ),
    "expired, after its time": lambda: PENDING.when(approve("a"), actor=APPROVING, later_ms=APPROVAL_MS),
    "own_request, by who asked for the run": lambda: PENDING.when(approve("a"), actor=USER),
    "own_request, by who asked, in other letters": lambda: PENDING.when(approve("a"), actor="user:ANN"),
    "own_request, by who asked, in wide letters": lambda: PENDING.when(approve("a"), actor="user:\uff41nn"),
    "own_request, by who asked, with spaces": lambda: PENDING.when(approve("a"), actor="user: ann "),
    "not_an_approver, without the role": lambda: PENDING.when(approve("a", roles=()), actor=APPROVING),
    "not_an_approver, with another role": lambda: PENDING.when(
        approve("a", roles=("admin", "approvers")), actor=APPROVING
    ),
    "not_a_person, by an agent": lambda: PENDING.when(approve("a"), actor="agent:sales"),
    "not_a_person, by a module": lambda: PENDING.when(approve("a"), actor="module:/crm"),
    "changed, of another call than was shown": lambda: PENDING.when(approve("a", sha256="0" * 64), actor=APPROVING),
    "invalid, a denial with arguments": lambda: PENDING.when(
        approve("a", approved=False, arguments={"id": "8"}), actor=APPROVING
    ),
}


@pytest.mark.parametrize("attack", REFUSALS)
def test_what_is_no_grant_is_refused_as_an_event_and_nothing_is_done(attack: str) -> None:
    before, refused = PENDING.all(ToolRequested), REFUSALS[attack]()
    (said,) = refused.said
    assert isinstance(said, CommandRejected)
    assert said.message
    made = len(refused.all(ToolRequested)) - len(before)
    assert made == (1 if "twice" in attack else 0)


def test_the_reason_is_a_word_for_programs() -> None:
    PENDING.when(approve("a"), actor=USER).then("command.rejected (own_request)")
    PENDING.when(approve("a", roles=()), actor=APPROVING).then("command.rejected (not_an_approver)")
    PENDING.when(approve("a", sha256="0" * 64), actor=APPROVING).then("command.rejected (changed)")
    PENDING.when(approve("a"), actor="agent:sales").then("command.rejected (not_a_person)")


def test_what_was_refused_can_still_be_granted_by_who_may() -> None:
    refused = PENDING.given(approve("a"), actor=USER).given(approve("a", roles=()), actor=APPROVING)
    refused.when(approve("a"), actor=APPROVING).then("approval.resolved a", "tool.requested a")


def test_a_site_s_own_automation_has_no_requester_and_any_approver_may_answer() -> None:
    own = Spec().given(create(), activate(), start(), context(), thought(call("a", "wire_money", id="7")))
    own.when(approve("a"), actor=USER).then("approval.resolved a", "tool.requested a")


# --- other arguments ------------------------------------------------------------------------------------------------


def test_other_arguments_ask_anew_and_somebody_else_must_agree() -> None:
    edited = PENDING.when(approve("a", arguments={"id": "8"}), actor=APPROVING)
    edited.then("approval.resolved a", "approval.requested a")
    first, second = edited.all(ApprovalRequested)
    answer = edited.the(ApprovalResolved)
    assert (answer.approved, answer.replaced_by, second.replaces) == (False, second.approval_id, first.approval_id)
    assert (first.edited_by, first.arguments) == (None, {"id": "7"})
    assert (second.edited_by, second.arguments) == (APPROVING, {"id": "8"})
    assert second.call_sha256 != first.call_sha256
    assert second.expires_at_ms == edited.at_ms + APPROVAL_MS
    edited.when(approve("a"), actor=APPROVING).then("command.rejected (own_request)")
    edited.when(approve("a"), actor=USER).then("command.rejected (own_request)")
    granted = edited.when(approve("a"), actor=OTHER).then("approval.resolved a", "tool.requested a")
    assert granted.the(ToolRequested).call_sha256 == second.call_sha256
    assert granted.run.calls[granted.call_ids["a"]].arguments == {"id": "8"}


def test_the_grant_for_the_first_arguments_is_none_for_the_others() -> None:
    edited = PENDING.given(approve("a", arguments={"id": "8"}), actor=APPROVING)
    old = ResolveApproval(
        execution_id=edited.run_id, approval_id=PENDING.approval_ids["a"], approved=True, roles=("approver",)
    )
    edited.when(old, actor=OTHER).then("command.rejected (not_pending)")
    stale = approve("a", sha256=PENDING.the(ApprovalRequested).call_sha256)
    edited.when(stale, actor=OTHER).then("command.rejected (changed)")


def test_whoever_ever_changed_the_arguments_may_not_grant_them() -> None:
    twice = PENDING.given(approve("a", arguments={"id": "8"}), actor=APPROVING)
    twice = twice.given(approve("a", arguments={"id": "7"}), actor=OTHER)
    assert len({each.approval_id for each in twice.all(ApprovalRequested)}) == 3
    for editor in (APPROVING, OTHER):
        twice.when(approve("a"), actor=editor).then("command.rejected (own_request)")
    twice.when(approve("a"), actor="user:dee").then("approval.resolved a", "tool.requested a")


def test_the_same_arguments_in_another_order_are_the_same() -> None:
    PENDING.when(approve("a", arguments={"id": "7"}), actor=APPROVING).then("approval.resolved a", "tool.requested a")


@pytest.mark.parametrize("arguments", [{"id": 8}, {"iban": "8"}, {"id": "8" * 70_000}])
def test_arguments_that_policy_refuses_are_not_asked_for(arguments: JsonObject) -> None:
    refused = PENDING.when(approve("a", arguments=arguments), actor=APPROVING)
    assert isinstance(refused.said[0], CommandRejected)
    refused.when(approve("a"), actor=APPROVING).then("approval.resolved a", "tool.requested a")


# --- in the loop ----------------------------------------------------------------------------------------------------

WIRE = steps((call("a", "wire_money", id="7"),), "Done.")


async def test_an_approver_of_another_site_is_refused_as_an_event() -> None:
    log, tools = await new_log(), StubTools()
    async with Owner(process(log, StubModel(WIRE), tools), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "approval.requested a" in lines(log))
        await tell(log, approve("a"), actor=APPROVING, site=OTHER_SITE)
        await until(lambda: lines(log)[-1] == "command.rejected (not_found)")
        assert tools.requests == []
        assert history(log).the(CommandRejected).message == "there is no such agent at your site"
        await tell(log, approve("a"), actor=APPROVING)
        await until(lambda: lines(log)[-1] == "execution.completed")
    assert len(tools.requests) == 1


@pytest.mark.parametrize("times", [1, 3])
async def test_a_grant_that_is_sent_again_after_a_crash_is_used_once(times: int) -> None:
    """The owner dies while the action is under way; the next one reads the grant again, and is sent it again."""
    log = await new_log()
    first, second = StubTools(), StubTools()
    again = approve("a")
    async with Owner(process(log, StubModel(WIRE), first), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "approval.requested a" in lines(log))
        grant = again(history(log))
        await tell(log, grant, actor=APPROVING)
        await until(lambda: "tool.completed a" in lines(log))
    await tell(log, *[grant] * times, actor=APPROVING)
    async with Owner(process(log, StubModel(WIRE), second), log):
        await until(lambda: "execution.completed" in lines(log))
        await until(lambda: len(history(log).all(CommandRejected)) == times)
    assert (len(first.requests), len(second.requests)) == (1, 0)
    assert lines(log).count("tool.requested a") == lines(log).count("approval.resolved a") == 1


async def test_two_answers_at_once_are_one_and_a_refusal() -> None:
    log, tools = await new_log(), StubTools()
    async with Owner(process(log, StubModel(WIRE), tools), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "approval.requested a" in lines(log))
    await tell(log, approve("a"), approve("a", approved=False), actor=APPROVING)
    async with Owner(process(log, StubModel(WIRE), tools), log):
        await until(lambda: "execution.completed" in lines(log))
    answers = history(log).all(ApprovalResolved)
    assert ([each.approved for each in answers], len(tools.requests)) == ([True], 1)
    assert "command.rejected (not_pending)" in lines(log)


# --- whatever people do ---------------------------------------------------------------------------------------------

_people = st.sampled_from((USER, APPROVING, OTHER, "user:dee", "system:worker", "agent:sales"))


@dataclass(frozen=True)
class Move:
    """What somebody tries."""

    kind: str
    approved: bool
    roles: tuple[str, ...]
    arguments: JsonObject | None
    seen: str | None

    def ask(self, sha256: str) -> Ask:
        match self.kind:
            case "expire":
                return expire("a")
            case "result":
                return result("a")
        seen = sha256 if self.seen == "right" else self.seen
        return approve("a", approved=self.approved, roles=self.roles, arguments=self.arguments, sha256=seen)


_tries = st.builds(
    Move,
    st.sampled_from(("answer", "answer", "answer", "expire", "result")),
    st.sampled_from((True, True, True, False)),
    st.sampled_from((("approver",), ("approver",), ("manager",), ("approver", "manager"), ())),
    st.sampled_from((None, None, None, {"id": "7"}, {"id": "8"}, {"id": 9})),
    st.sampled_from((None, None, "right", "0" * 64)),
)
_moves = st.lists(
    st.tuples(_tries, _people, st.sampled_from((0, SECOND_MS, APPROVAL_MS - 1, APPROVAL_MS, -APPROVAL_MS))),
    max_size=8,
)
_agents = st.sampled_from(
    (
        config(),
        config(on_denial="tell", on_expiry="deny"),
        config(on_expiry="escalate", escalate_to="manager"),
    )
)


@settings(bounded, max_examples=120)
@given(_agents, _moves)
def test_every_action_has_one_grant_in_time_by_who_may_and_for_these_very_arguments(
    agent: AgentConfig, moves: list[tuple[Move, str, int]]
) -> None:
    spec = Spec().given(create(agent), activate()).given(start(), actor=USER).given(context())
    spec = spec.given(thought(call("a", "wire_money", id="7")))
    grants = 0
    for move, who, later_ms in moves:
        asked = spec.the(ApprovalRequested)
        state = copy.copy(spec.run.calls[asked.call_id]) if spec.run_id in spec.stream.runs else None
        spec = spec.when(move.ask(asked.call_sha256), actor=who, later_ms=later_ms)
        made = [event for event in spec.said if isinstance(event, ToolRequested)]
        if not made:
            continue
        grants += 1
        assert state is not None
        assert isinstance(spec.said[0], ApprovalResolved)
        assert (spec.said[0].approved, spec.said[0].approval_id) == (True, asked.approval_id)
        assert spec.stream.at_ms < state.expires_at_ms
        assert who.startswith("user:")
        assert who not in {USER, *state.edited_by}
        assert state.role in move.roles
        assert move.seen in (None, "right")
        assert made[0].call_sha256 == asked.call_sha256 == _sha256(state.arguments)
        assert move.arguments in (None, state.arguments)
        assert asked.arguments == state.arguments
    assert grants <= 1
    assert len(spec.all(ToolRequested)) == grants


def _sha256(arguments: JsonObject) -> str:
    named = {"tool": "wire_money", "version": "1", "arguments": arguments, "site": SITE}
    return hashlib.sha256(orjson.dumps(named, option=orjson.OPT_SORT_KEYS)).hexdigest()
