"""An agent's own life: versions, activity, and a person who always gets an answer."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from processors.agents.state import CATALOGUES_KEPT
from schemas.agent_rules import MonitoringRule
from schemas.agents import Goal
from schemas.catalogue import Catalogue
from schemas.commands import CANCELLED_AT_ONCE, AnyCommand, CancelExecution, UpdateAgent
from schemas.events import (
    AgentActivated,
    AgentCreated,
    AgentDeactivated,
    AgentDeleted,
    AgentUpdated,
    CommandRejected,
    ExecutionCancelled,
    ExecutionStarted,
)
from schemas.ids import ExecutionId
from tests.processors.asks import (
    ACTIVE,
    STARTED,
    THINKING,
    activate,
    approve,
    call,
    cancel,
    context,
    create,
    deactivate,
    delete,
    doubt,
    expire,
    model_failure,
    progress,
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


def cancel_of(execution_id: ExecutionId) -> CancelExecution:
    return CancelExecution(execution_id=execution_id)


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


def test_a_rollback_says_to_what_and_why() -> None:
    changed = CREATED.given(update(name="Two"), actor=USER)
    back = UpdateAgent(config=config(), expected_version=2, rolled_back_to=1, reason="Two was worse")
    rolled = changed.when(back, actor=USER).then("agent.updated").the(AgentUpdated)
    assert (rolled.agent_version, rolled.rolled_back_to, rolled.reason) == (3, 1, "Two was worse")
    assert rolled.changes == {"name": "Sales"}


def test_a_configuration_whose_fields_do_not_go_together_is_rejected_with_the_fix() -> None:
    rules = (MonitoringRule(name="Logins", event="auth.login.*"),)
    wrong = CREATED.when(update(monitoring_rules=rules), actor=USER).then("command.rejected (invalid_config)")
    assert wrong.the(CommandRejected).message.startswith("monitoring_rules: only a guardian has ")
    Spec().when(create(config(managed_agents=("a", "a"))), actor=USER).then("command.rejected (invalid_config)")


def test_a_run_keeps_the_version_that_it_began_with() -> None:
    begun = ACTIVE.given(start(), update(name="Two", system_prompt="Other words.", max_steps_per_run=1), context())
    assert begun.run.agent_version == 1
    assert begun.the(ExecutionStarted).agent_version == 1
    assert "You help to sell." in begun.run.opening[0].content
    assert begun.run.limits.max_steps == 10
    later = begun.given(start("t2"), context())
    assert (later.the(ExecutionStarted).agent_version, later.run.limits.max_steps) == (2, 1)
    assert "Other words." in later.run.opening[0].content
    rolled = later.given(update(), start("t3"))
    assert sorted(rolled.stream.agent.configs) == [1, 2, 3]
    ended = rolled.given(*(cancel_of(run) for run in rolled.stream.runs), update(name="Four"))
    assert sorted(ended.stream.agent.configs) == [4]


def test_deactivated_runs_finish() -> None:
    idle = THINKING.when(deactivate(), actor=USER).then("agent.deactivated")
    assert idle.the(AgentDeactivated).cancel_runs is False
    idle.when(thought(text="Done.")).then("step.thought 1", "execution.completed")
    idle.when(start("t2")).then("agent.trigger_skipped (inactive)")


def test_deactivated_runs_are_cancelled_where_it_is_asked_for() -> None:
    two = THINKING.given(start("t2"), context(), thought(call("a", "charge_card")), start_tool("a"))
    stopped = two.when(deactivate(cancel_runs=True), actor=USER)
    stopped.then("execution.cancelled", "tool.in_doubt a", "execution.cancelled", "agent.deactivated")
    assert stopped.the(AgentDeactivated).cancel_runs is True
    assert stopped.the(ExecutionCancelled).cancelled_by == USER
    stopped.when(deactivate(cancel_runs=True), actor=USER).then("command.rejected (nothing_to_do)")


def test_what_still_runs_of_an_inactive_agent_can_be_cancelled() -> None:
    idle = THINKING.given(deactivate(), actor=USER)
    idle.when(deactivate(cancel_runs=True), actor=USER).then("execution.cancelled")


def test_many_runs_are_cancelled_some_at_a_time() -> None:
    busy = Spec().given(create(config(max_concurrent_runs=500, max_runs_per_hour=500)), activate())
    busy = busy.given(*(start(f"t{number}") for number in range(CANCELLED_AT_ONCE + 5)), later_ms=1)
    some = busy.when(deactivate(cancel_runs=True), actor=USER)
    some.then(*["execution.cancelled"] * CANCELLED_AT_ONCE, "agent.deactivated")
    rest = some.when(deactivate(cancel_runs=True), actor=USER).then(*["execution.cancelled"] * 5)
    assert rest.stream.runs == {}


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
    deactivate(cancel_runs=True),
    delete(),
    progress(),
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
