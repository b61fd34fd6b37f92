"""I8 holds of any story, and a planted violation of it is found."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given

from schemas import events as ev
from schemas.events import Event
from schemas.ids import ApprovalId
from tests.processors.asks import activate, approve, call, context, create, start, thought
from tests.processors.random_asks import Said, stories
from tests.processors.samples import APPROVING, USER
from tests.processors.test_audit import audited, bounded, claim, violated
from tests.processors.told import Told, active, whole_run

OTHER = ApprovalId("00000000-0000-8000-8000-00000000000c")
PENDING: Told = (
    Told()
    .given(create(), activate())
    .given(start(), actor=USER)
    .given(context())
    .given(thought(call("a", "send_mail", id="7")))
)


def test_what_was_asked_granted_and_used_is_counted() -> None:
    found = audited(whole_run())["I8"]
    assert (found.violations, found.counts) == ([], {"asked": 2, "granted": 1, "used": 1})


def test_other_arguments_and_their_grant_are_in_order() -> None:
    told = PENDING.given(approve("a", arguments={"id": "8"}), actor=APPROVING).given(approve("a"), actor="user:cho")
    found = audited(told)
    assert violated(found) == set()
    assert found["I8"].counts == {"asked": 2, "granted": 1, "used": 1}


@bounded
@given(stories)
def test_any_story_is_in_order(story: list[Said]) -> None:
    assert audited(active().tell(story))["I8"].violations == []


def made(told: Told, **changes: Any) -> Event:
    asked = told.the(ev.ApprovalRequested)
    given_: dict[str, Any] = {
        "execution_id": told.run_id,
        "step": 1,
        "call_id": asked.call_id,
        "tool": "send_mail",
        "tool_version": "1",
        "call_sha256": asked.call_sha256,
        "idempotency_key": asked.call_id,
    }
    return ev.ToolRequested(**(given_ | changes))


def answered(told: Told, by: str = APPROVING, *, approved: bool = True, **changes: Any) -> Event:
    asked = told.the(ev.ApprovalRequested)
    given_: dict[str, Any] = {
        "execution_id": told.run_id,
        "approval_id": asked.approval_id,
        "call_id": asked.call_id,
        "approved": approved,
        "resolved_by": by,
        "note": "",
    }
    return ev.ApprovalResolved(**(given_ | changes))


def asked(told: Told, **changes: Any) -> Event:
    return told.the(ev.ApprovalRequested).model_copy(update=changes)


def moved(told: Told) -> Event:
    """Its time is over at once."""
    first = told.the(ev.ApprovalRequested)
    return ev.ApprovalEscalated(
        execution_id=told.run_id, approval_id=first.approval_id, call_id=first.call_id, role="manager", expires_at_ms=1
    )


def expired(told: Told) -> Event:
    first = told.the(ev.ApprovalRequested)
    return ev.ApprovalExpired(execution_id=told.run_id, approval_id=first.approval_id, call_id=first.call_id)


PLANTED: dict[str, tuple[Callable[[Told], Sequence[Event]], str]] = {
    "a call without an answer": (lambda t: [made(t)], "no grant that is not used up"),
    "a call that was denied": (lambda t: [answered(t, approved=False), made(t)], "no grant that is not used up"),
    "a grant that is used twice": (lambda t: [answered(t), made(t), made(t)], "no grant that is not used up"),
    "a grant of who asked": (lambda t: [answered(t, USER), made(t)], "is of who asked for it"),
    "a grant of who asked, in capitals": (lambda t: [answered(t, "user:ANN"), made(t)], "is of who asked for it"),
    "a grant of who changed it": (
        lambda t: [
            asked(t, approval_id=OTHER, edited_by=APPROVING, replaces=OTHER),
            answered(t, approval_id=OTHER),
            made(t),
        ],
        "is of who asked for it",
    ),
    "a grant of a program": (lambda t: [answered(t, "system:worker"), made(t)], "is not a person's"),
    "a late grant": (lambda t: [moved(t), answered(t), made(t)], "comes after its time"),
    "a second answer": (lambda t: [answered(t, approved=False), answered(t)], "is not pending"),
    "a grant after the end": (lambda t: [moved(t), expired(t), answered(t)], "is not pending"),
    "an answer to what was never asked": (lambda t: [answered(t, approval_id=OTHER)], "is not pending"),
    "an early end": (lambda t: [expired(t)], "expired before its time"),
    "another call than was granted": (
        lambda t: [answered(t), made(t, call_sha256="0" * 64)],
        "is not the one that was approved",
    ),
    "other arguments than were shown": (
        lambda t: [asked(t, approval_id=OTHER, arguments={"id": "8"}), answered(t, approval_id=OTHER), made(t)],
        "has other arguments than were shown",
    ),
    "a second question": (lambda t: [asked(t)], "is asked for a second time"),
}


@pytest.mark.parametrize(("plant", "said"), PLANTED.values(), ids=PLANTED.keys())
def test_an_action_against_the_rules_is_found(plant: Callable[[Told], Sequence[Event]], said: str) -> None:
    found = audited(claim(PENDING, *plant(PENDING)))
    assert said in " ".join(found["I8"].violations)


def test_what_the_log_says_of_old_approvals_without_arguments_is_checked_as_far_as_it_goes() -> None:
    plant = [asked(PENDING, approval_id=OTHER, arguments=None), answered(PENDING, approval_id=OTHER), made(PENDING)]
    assert audited(claim(PENDING, *plant))["I8"].violations == []
