"""An agent's own life: versions, activity, and a person who always gets an answer."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from processors.agents.state import CATALOGUES_KEPT
from schemas.agents import Goal
from schemas.catalogue import Catalogue
from schemas.commands import AnyCommand
from schemas.events import AgentActivated, AgentCreated, AgentDeleted, AgentUpdated, CommandRejected
from tests.processors.asks import (
    ACTIVE,
    STARTED,
    THINKING,
    activate,
    approve,
    cancel,
    context,
    create,
    deactivate,
    delete,
    doubt,
    expire,
    model_failure,
    resolve_doubt,
    result,
    start,
    start_tool,
    thought,
    time_out,
    update,
)
from tests.processors.samples import AGENT, USER, config, tool
from tests.processors.spec import Ask, Spec

CREATED = Spec().given(create(), actor=USER)


def test_an_agent_begins_inactive_at_version_one() -> None:
    created = CREATED.then("agent.created").the(AgentCreated)
    assert (created.id, created.name, created.type, created.agent_version) == (AGENT, "Sales", "specialist", 1)
    assert not CREATED.stream.agent.active


def test_creating_it_again_is_rejected_with_the_reason() -> None:
    CREATED.when(create(), actor=USER).then("command.rejected (nothing_to_do)")
    CREATED.when(create(config(name="Other")), actor=USER).then("command.rejected (exists)")


def test_activation_and_deactivation_are_said_once() -> None:
    active = CREATED.when(activate(), actor=USER).then("agent.activated")
    assert active.the(AgentActivated).name == "Sales"
    active.when(activate(), actor=USER).then("command.rejected (nothing_to_do)")
    idle = active.when(deactivate(), actor=USER).then("agent.deactivated")
    idle.when(deactivate(), actor=USER).then("command.rejected (nothing_to_do)")


def test_an_update_tells_what_changed() -> None:
    goals = (Goal(name="Sell", target=3.5, deadline=datetime(2026, 3, 1, 12, tzinfo=UTC)),)
    updated = CREATED.when(update(name="Buyers", goals=goals), actor=USER).then("agent.updated")
    assert set(updated.the(AgentUpdated).changes) == {"name", "goals"}
    assert updated.the(AgentUpdated).agent_version == 2
    assert updated.stream.agent.config == config(name="Buyers", goals=goals)


def test_an_update_of_nothing_is_rejected() -> None:
    CREATED.when(update(), actor=USER).then("command.rejected (nothing_to_do)")


def test_an_update_of_what_somebody_else_changed_meanwhile_is_rejected() -> None:
    changed = CREATED.given(update(name="Two"), actor=USER)
    late = changed.when(update(expected_version=1, name="Three"), actor=USER)
    late.then("command.rejected (version_conflict)")
    assert "at version 2, not 1" in late.the(CommandRejected).message
    changed.when(update(expected_version=2, name="Three"), actor=USER).then("agent.updated")


def test_an_agent_keeps_its_slug() -> None:
    CREATED.when(update(slug="other"), actor=USER).then("command.rejected (slug_changed)")


def test_a_deleted_agent_answers_until_it_is_created_anew() -> None:
    deleted = ACTIVE.when(delete(), actor=USER).then("agent.deleted")
    assert deleted.the(AgentDeleted).name == "Sales"
    for asked in (activate(), deactivate(), update(name="Two"), delete()):
        deleted.when(asked, actor=USER).then("command.rejected (deleted)")
    anew = deleted.when(create(), actor=USER).then("agent.created")
    assert anew.the(AgentCreated).agent_version == 2
    assert not anew.stream.agent.active


def test_old_catalogues_are_forgotten_but_not_those_of_live_runs() -> None:
    spec = THINKING
    first = spec.run.catalogue_sha256
    for number in range(CATALOGUES_KEPT + 3):
        newer = Catalogue(tools=(tool("look_up", version=str(number)),))
        spec = spec.given(start(f"more-{number}"), context(newer), thought(text="Done."))
    assert first in spec.stream.agent.catalogues
    assert len(spec.stream.agent.catalogues) == CATALOGUES_KEPT + 1


COMMANDS: list[Ask | Callable[[], AnyCommand]] = [
    create(),
    update(),
    activate(),
    deactivate(),
    delete(),
    start(),
    cancel(),
    time_out(),
    context(),
    thought(),
    model_failure(),
    start_tool("a"),
    result("a"),
    doubt("a"),
    resolve_doubt("a", done=True),
    approve("a"),
    expire("a"),
]


@pytest.mark.parametrize("spec", [CREATED, ACTIVE, STARTED, THINKING, ACTIVE.given(delete())])
@pytest.mark.parametrize("ask", COMMANDS)
def test_a_person_s_command_always_gives_an_event(spec: Spec, ask: Ask) -> None:
    once = spec.when(ask, actor=USER)
    assert once.said
    assert once.when(ask, actor=USER).said
