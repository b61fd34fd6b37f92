from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from projections.db import Pool
from projections.projector import Projector
from projections.queries.activity import list_activity
from projections.queries.agents import get_agent, list_agents
from projections.queries.approvals import get_approval, pending_approvals
from projections.queries.executions import get_execution, list_executions
from projections.queries.goals import list_goals
from projections.queries.reading import LIMIT, id_range, page
from projections.queries.usage import daily_usage, total_usage
from projections.queries.versions import get_version, list_versions
from schemas import events as ev
from schemas.agents import AgentConfig
from schemas.chat import Usage
from schemas.errors import NotFoundError, UnavailableError
from schemas.ids import ExecutionId
from tests.projections.histories import OTHER_SITE, SITE, START_MS, Run, Stream, config, usual_run
from tests.projections.journal import Journal

DAY = date(2026, 1, 24)


async def project(pool: Pool, journal: Journal, *streams: Stream) -> None:
    await journal.tell(*streams)
    await Projector(journal, pool).catch_up()


def waiting(stream: Stream, name: str) -> Run:
    return stream.started(name).assembled().thought("", "mail_send", arguments={"to": name}).approval_requested()


async def test_agents_are_listed_by_slug_and_paged(pool: Pool, journal: Journal) -> None:
    await project(pool, journal, *(Stream(slug=slug).created() for slug in "cab"), Stream(OTHER_SITE, "d").created())
    assert [agent.slug for agent in await list_agents(pool, SITE)] == ["a", "b", "c"]
    assert [agent.slug for agent in await list_agents(pool, None)] == ["a", "b", "c", "d"]
    first = await list_agents(pool, SITE, limit=2)
    rest = await list_agents(pool, SITE, after=(first[-1].slug, first[-1].id))
    assert [agent.slug for agent in rest] == ["c"]


async def test_inactive_and_deleted_agents_are_told_apart(pool: Pool, journal: Journal) -> None:
    live, asleep, gone = (Stream(slug=slug).created() for slug in ("live", "asleep", "gone"))
    asleep.say(ev.AgentDeactivated(id=asleep.agent_id, name=""))
    gone.say(ev.AgentDeleted(id=gone.agent_id, name=""))
    await project(pool, journal, live, asleep, gone)
    assert [agent.slug for agent in await list_agents(pool, SITE)] == ["asleep", "live"]
    assert [agent.slug for agent in await list_agents(pool, SITE, active=True)] == ["live"]
    assert [agent.slug for agent in await list_agents(pool, SITE, active=False, deleted=True)] == ["asleep", "gone"]


async def test_goals_are_told_with_how_far_they_are(pool: Pool, journal: Journal) -> None:
    forever = 4_102_444_800_000  # 2100
    goals: list[dict[str, Any]] = [
        {"name": "Old", "deadline": "2026-01-02T00:00:00", "target": 3, "event": "a"},
        {"name": "Day", "priority": 9, "event": "a", "period": "day"},
        {"name": "Win", "priority": 9, "event": "a", "target": 2, "is_recurring": False, "metric": "won"},
        {"name": "Plain", "priority": 1},
    ]
    stream = Stream().created().changed(2, goals=goals)
    stream.progressed("Win", 2.5, achieved_at_ms=START_MS).progressed("Win", 2.75, achieved_at_ms=START_MS)
    stream.progressed("Day", 7, period=(START_MS, START_MS + 1)).progressed("Plain", 8).progressed("Gone", 9)
    await project(pool, journal, stream, Stream(OTHER_SITE).created().changed(2, goals=goals))
    day, win, old, plain = await list_goals(pool, SITE, stream.agent_id)
    assert [g.name for g in (day, win, old, plain)] == ["Day", "Win", "Old", "Plain"]
    assert (win.current_value, win.is_achieved, win.event_count, win.success_metric) == (
        Decimal("2.75"),
        True,
        2,
        "won",
    )
    assert win.achieved_at == datetime.fromtimestamp(START_MS / 1000, UTC)
    assert (day.current_value, day.is_achieved) == (None, False)  # its day is over
    assert (old.deadline, old.is_missed) == (datetime(2026, 1, 2, tzinfo=UTC), True)
    assert (plain.current_value, plain.comparison, plain.is_missed) == (None, "gte", False)
    await project(pool, journal, stream.progressed("Day", 1, period=(START_MS, forever)))
    assert (await list_goals(pool, SITE, stream.agent_id))[0].current_value == 1


async def test_a_goal_that_went_and_came_again_begins_anew(pool: Pool, journal: Journal) -> None:
    win, other = {"name": "Win", "event": "a"}, {"name": "Other", "event": "a"}
    stream = Stream().created().changed(2, goals=[win, other]).progressed("Win", 5).progressed("Other", 6)
    await project(pool, journal, stream)
    await project(pool, journal, stream.changed(3, goals=[other]), stream.changed(4, goals=[win, other]))
    found = {goal.name: goal.current_value for goal in await list_goals(pool, SITE, stream.agent_id)}
    assert found == {"Win": None, "Other": 6}
    await project(pool, journal, stream.deleted().created().changed(6, goals=[win, other]))
    assert {g.current_value for g in await list_goals(pool, SITE, stream.agent_id)} == {None}


async def test_every_version_of_an_agent_can_be_read_whole(pool: Pool, journal: Journal) -> None:
    stream = Stream().created().changed(2, name="Two", goals=[{"name": "Win"}])
    back = ev.AgentUpdated(
        id=stream.agent_id, agent_version=3, changes={"name": "Greeter", "goals": []}, rolled_back_to=1, reason="worse"
    )
    stream.say(back, actor="user:cy").deleted().created()
    await project(pool, journal, stream, Stream(OTHER_SITE).created())
    versions = await list_versions(pool, SITE, stream.agent_id)
    assert [(v.version, v.kind, v.changed_by, v.rolled_back_to, v.reason) for v in versions] == [
        (1, "created", "user:ann", None, ""),
        (2, "updated", "user:bob", None, ""),
        (3, "updated", "user:cy", 1, "worse"),
        (1, "created", "user:ann", None, ""),
    ]
    second = await get_version(pool, SITE, stream.agent_id, 2)
    assert (second["name"], second["goals"], second["system_prompt"]) == ("Two", [{"name": "Win"}], "Be kind.")
    assert AgentConfig.model_validate(await get_version(pool, SITE, stream.agent_id, 3)) == config()
    with pytest.raises(NotFoundError, match="no version 9"):
        await get_version(pool, SITE, stream.agent_id, 9)


async def test_an_agent_is_found_by_id_or_slug_within_its_site(pool: Pool, journal: Journal) -> None:
    ours, theirs = Stream().created(), Stream(OTHER_SITE).created()
    await project(pool, journal, usual_run(ours, "t1"), theirs)
    agent = await get_agent(pool, SITE, "greeter")
    assert agent == await get_agent(pool, SITE, ours.agent_id.upper()) == await get_agent(pool, None, ours.agent_id)
    assert (agent.total_runs, agent.triggers, agent.config["system_prompt"]) == (1, ["manual"], "Be kind.")
    with pytest.raises(NotFoundError, match="several sites"):
        await get_agent(pool, None, "greeter")
    with pytest.raises(NotFoundError, match="no agent"):
        await get_agent(pool, SITE, theirs.agent_id)


async def test_runs_are_listed_the_newest_first_and_filtered(pool: Pool, journal: Journal) -> None:
    one, two = Stream(slug="one").created(), Stream(slug="two").created()
    for number in range(3):
        usual_run(one, f"t{number}")
    two.at_ms = one.at_ms
    two.started("failing").failed()
    waiting(two, "waiting")
    await project(pool, journal, one, two, usual_run(Stream(OTHER_SITE).created(), "theirs"))
    runs = await list_executions(pool, SITE)
    assert [run.trigger_id for run in runs] == ["waiting", "failing", "t2", "t1", "t0"]
    assert [run.trigger_id for run in await list_executions(pool, SITE, limit=2, before=runs[1].id)] == ["t2", "t1"]
    assert [run.agent_slug for run in await list_executions(pool, SITE, agent_id=two.agent_id)] == ["two", "two"]
    assert [run.trigger_id for run in await list_executions(pool, SITE, status="failed")] == ["failing"]
    assert len(await list_executions(pool, None, status="completed")) == 4


async def test_a_run_is_found_by_the_beginning_of_its_id(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    run = waiting(stream, "t1")
    usual_run(stream, "t2")
    await project(pool, journal, stream)
    with pytest.raises(NotFoundError, match="more than one"):
        await get_execution(pool, SITE, run.id[:8])
    found = await get_execution(pool, SITE, run.id[:-2])
    assert found.id == run.id
    assert [(step.step_number, step.step_type) for step in found.steps] == [(1, "observe"), (1, "think"), (1, "act")]
    assert [(call.tool_name, call.status, call.input) for call in found.calls] == [
        ("mail_send", "pending", {"to": "t1"})
    ]
    assert [approval.status for approval in found.approvals] == ["pending"]
    assert found.limits == {"max_steps": 10, "max_tool_calls_per_step": 3, "timeout_seconds": 120}
    with pytest.raises(NotFoundError, match="no run"):
        await get_execution(pool, OTHER_SITE, run.id)


@pytest.mark.parametrize("ref", ["", "abc", "not-an-id", "'; DROP TABLE x", "0" * 37, "019bee6b_"])
async def test_what_cannot_begin_an_id_names_nothing(pool: Pool, ref: str) -> None:
    with pytest.raises(NotFoundError, match="nor the beginning of one"):
        await get_execution(pool, SITE, ref)


async def test_only_what_a_person_can_still_answer_is_pending(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    first, second = waiting(stream, "t1"), waiting(stream, "t2")
    waiting(stream, "t3").approval_resolved(approved=True)
    ended = waiting(stream, "t4")
    ended.cancelled()
    await project(pool, journal, stream, waiting(Stream(OTHER_SITE).created(), "theirs").stream)
    found = await pending_approvals(pool, SITE)
    assert {a.execution_id: a.arguments for a in found} == {first.id: {"to": "t1"}, second.id: {"to": "t2"}}
    assert found[0].agent_slug == "greeter"
    assert len(await pending_approvals(pool, SITE, after=found[0].id)) == 1
    assert (await get_approval(pool, SITE, ended.approval_id())).status == "expired"
    with pytest.raises(NotFoundError):
        await get_approval(pool, OTHER_SITE, ended.approval_id())


async def test_usage_is_by_day_and_in_sum_and_keeps_currencies_apart(pool: Pool, journal: Journal) -> None:
    run = Stream().created().started().assembled().thought("Done")
    run.metered(Usage(input_tokens=3)).completed()
    await project(pool, journal, run.stream, usual_run(Stream(OTHER_SITE).created(), "t1"))
    (day,) = await daily_usage(pool, SITE, DAY, DAY)
    assert (day.date, day.counts.agent_runs, day.counts.llm_calls, day.counts.tokens_input) == (DAY, 1, 2, 1_003)
    assert [(line.model, line.cost_micros) for line in day.models] == [("claude", 99), ("gpt-4o", 1_234)]
    totals = await total_usage(pool, SITE, DAY, DAY, agent_id=run.stream.agent_id)
    assert totals.cost_micros == {"USD": 1_234, "EUR": 99}
    assert totals.counts == day.counts
    assert (await total_usage(pool, None, DAY, DAY)).counts.agent_runs == 2
    nothing = await total_usage(pool, SITE, date(2020, 1, 1), date(2020, 1, 2))
    assert (nothing.counts.agent_runs, nothing.models) == (0, ())


async def test_activity_is_listed_the_newest_first(pool: Pool, journal: Journal) -> None:
    stream = Stream().created().say(ev.CommandRejected(command="x", reason="r", message="m"), actor="user:bob")
    await project(pool, journal, stream)
    found = await list_activity(pool, SITE, stream.agent_id)
    assert [activity.kind for activity in found] == ["command_rejected", "activated", "created"]
    (rejected,) = await list_activity(pool, SITE, stream.agent_id, kind="command_rejected")
    assert (rejected.reason, rejected.actor, rejected.details["command"]) == ("r", "user:bob", "x")
    assert [a.kind for a in await list_activity(pool, SITE, stream.agent_id, before=2)] == ["created"]
    assert await list_activity(pool, OTHER_SITE, stream.agent_id) == ()


async def test_before_the_first_projector_there_is_nothing_to_read(pool: Pool) -> None:
    await pool.execute("DROP SCHEMA projections CASCADE")
    with pytest.raises(UnavailableError, match="start a projector"):
        await list_agents(pool, SITE)


def test_a_page_has_its_limits() -> None:
    assert (page(0), page(7), page(10_000)) == (1, 7, LIMIT)


def test_a_shortened_id_is_a_range() -> None:
    run = ExecutionId("019bee6b-1234-8000-8000-000000000001")
    assert id_range(run) == (run, run)
    assert id_range("019BEE6B-") == ("019bee6b-0000-0000-0000-000000000000", "019bee6b-ffff-ffff-ffff-ffffffffffff")
