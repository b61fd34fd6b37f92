"""What each kind of event leaves in the tables."""

from datetime import UTC, date, datetime, timedelta

import orjson

from projections.db import Pool
from projections.projector import Projector
from projections.queries.approvals import approvals_of
from schemas import events as ev
from schemas.catalogue import Catalogue
from schemas.chat import Usage
from schemas.delegation import Outcome, RuleFound
from schemas.message import JsonObject
from tests.projections.histories import SHA, SITE, START_MS, Stream, usual_run
from tests.projections.journal import Journal


async def project(pool: Pool, journal: Journal, *streams: Stream) -> None:
    await journal.tell(*streams)
    await Projector(journal, pool).catch_up()


async def rows(pool: Pool, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await pool.fetch(sql)]


async def test_an_agent_is_created_changed_and_deleted_and_its_row_stays(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    select = (
        "SELECT name, agent_type, domain, agent_version, is_active, config->>'llm_model' FROM projections.ai_agents"
    )
    await project(pool, journal, stream)
    assert await rows(pool, select) == [("Greeter", "assistant", "sales", 1, True, "gpt-4o")]
    stream.changed(2, llm_model="m2", domain=None).changed(3, name="Greta")
    stream.say(ev.AgentDeactivated(id=stream.agent_id, name="Greta"), actor="user:bob")
    await project(pool, journal, stream)
    assert await rows(pool, select) == [("Greta", "assistant", None, 3, False, "m2")]
    await project(pool, journal, stream.deleted())
    select = "SELECT created_by, updated_by, deleted_at = updated_at, is_active FROM projections.ai_agents"
    assert await rows(pool, select) == [("user:ann", "user:cy", True, False)]
    await project(pool, journal, stream.created())
    assert await rows(pool, select) == [("user:ann", "user:ann", None, True)]
    kinds = "SELECT kind FROM projections.ai_agent_activity ORDER BY sequence"
    assert [kind for (kind,) in await rows(pool, kinds)] == [
        "created", "activated", "updated", "updated", "deactivated", "deleted", "created", "activated",
    ]  # fmt: skip


async def test_a_run_has_what_started_it_what_it_did_and_what_it_used(pool: Pool, journal: Journal) -> None:
    await project(pool, journal, usual_run(Stream().created(), "t1", {"n": 1}))
    (row,) = await pool.fetch("SELECT * FROM projections.ai_agent_executions")
    run = dict(row)
    assert run["started_at"] == datetime(2026, 1, 24, 9, 29, 59, 800_000, UTC)
    assert orjson.loads(run["trigger_data"]) == {"n": 1}
    assert [a["status"] for a in orjson.loads(run["actions_taken"])] == ["completed"] * 3
    for name, value in {
        "status": "completed",
        "result": "Result of t1",
        "trigger_type": "event",
        "trigger_event_type": "contact.created",
        "trigger_source": "/crm",
        "trigger_id": "t1",
        "agent_version": 1,
        "current_step": 4,
        "llm_calls": 4,
        "tool_calls": 3,
        "tokens_input": 4_000,
        "tokens_output": 200,
        "tokens_cached": 2_400,
        "tokens_total": 4_200,
        "cost_micros": 4 * 1_234,
        "currency": "USD",
        "duration_ms": 2_000,
        "correlation_id": "correlation-greeter",
        "catalogue_sha256": SHA,
        "pending_approvals": 0,
        "last_sequence": 19,
        "error": None,
    }.items():
        assert run[name] == value, name


async def test_a_run_waits_while_an_approval_is_pending(pool: Pool, journal: Journal) -> None:
    status = "SELECT status, pending_approvals FROM projections.ai_agent_executions"
    approvals = "SELECT status, resolved_by, resolution_note FROM projections.ai_agent_approvals ORDER BY id"
    run = Stream().created().started().assembled().thought("", "mail_send", "mail_send")
    run.approval_requested().approval_requested(position=1)
    await project(pool, journal, run.stream)
    assert await rows(pool, status) == [("waiting_approval", 2)]
    await project(pool, journal, run.approval_resolved(approved=True).requested("mail_send").stream)
    assert await rows(pool, status) == [("waiting_approval", 1)]
    await project(pool, journal, run.approval_expired(1).denied(position=1).stream)
    assert await rows(pool, status) == [("running", 0)]
    assert sorted(await rows(pool, approvals), key=str) == [("approved", "user:bob", "fine"), ("expired", None, None)]


async def test_a_person_s_other_arguments_are_another_approval_and_the_call_s(pool: Pool, journal: Journal) -> None:
    run = Stream().created().started(requester="user:ann").assembled().thought("", "mail_send", arguments={"to": "a"})
    run.approval_requested(arguments={"to": "a"}).approval_edited({"to": "b"})
    await project(pool, journal, run.stream)
    found = {each.status: each for each in await approvals_of(pool, SITE, run.id)}
    first, second = found["denied"], found["pending"]
    assert first.arguments == {"to": "a"}
    assert (first.status, first.replaced_by, first.resolved_by) == ("denied", second.id, "user:bob")
    assert (second.status, second.replaces, second.edited_by) == ("pending", first.id, "user:bob")
    assert (second.requested_by, second.role, second.arguments) == ("user:ann", "approver", {"to": "b"})
    assert second.call_sha256 != first.call_sha256
    status = "SELECT status, pending_approvals FROM projections.ai_agent_executions"
    assert await rows(pool, status) == [("waiting_approval", 1)]
    granted = run.approval_resolved(approved=True, edition=1).requested("mail_send").tool_completed("sent", "mail_send")
    await project(pool, journal, granted.stream)
    called = "SELECT status, input FROM projections.ai_agent_tool_calls"
    assert await rows(pool, called) == [("completed", '{"to": "b"}')]


async def test_an_escalated_approval_has_another_role_and_more_time(pool: Pool, journal: Journal) -> None:
    run = Stream().created().started().assembled().thought("", "mail_send").approval_requested()
    await project(pool, journal, run.stream)
    (before,) = await approvals_of(pool, SITE, run.id)
    await project(pool, journal, run.approval_escalated().stream)
    (after,) = await approvals_of(pool, SITE, run.id)
    assert (before.role, before.escalated_at, after.role, after.status) == ("approver", None, "manager", "pending")
    assert before.expires_at is not None
    assert after.expires_at is not None
    assert after.escalated_at is not None
    assert before.expires_at < after.expires_at


async def test_runs_end_in_four_ways_and_agents_count_them(pool: Pool, journal: Journal) -> None:
    stream = usual_run(Stream().created(), "t0")
    stream.started("t1").assembled().failed()
    stream.started("t2").assembled().cancelled()
    stream.started("t3").assembled().timed_out()
    stream.started("t4").assembled()
    await project(pool, journal, stream)
    select = "SELECT status, error_reason, error, ended_by FROM projections.ai_agent_executions ORDER BY id"
    assert await rows(pool, select) == [
        ("completed", None, None, None),
        ("failed", "model_failed", "No model answered.", None),
        ("cancelled", "cancelled", "not needed", "user:ann"),
        ("timed_out", "timed_out", "no end after 120 s", None),
        ("running", None, None, None),
    ]
    select = """SELECT total_runs, successful_runs, failed_runs, cancelled_runs, timed_out_runs, total_tokens_used,
      total_actions_taken, avg_response_time_ms, last_error FROM projections.ai_agents"""
    assert await rows(pool, select) == [(5, 1, 1, 1, 1, 4_200, 3, 2_000, "no end after 120 s")]


async def test_steps_tell_what_was_observed_thought_and_done(pool: Pool, journal: Journal) -> None:
    run = Stream().created().started().assembled().thought("I look.", "crm_get", arguments={"id": 7}).requested()
    run.tool_completed({"name": "Ann"}).observed("1 result").thought("All is well.").completed()
    await project(pool, journal, run.stream)
    select = """SELECT step_number, step_type, coalesce(input_text, reasoning, output_text, tool_name),
      tool_input::text, tool_output::text, tokens_used FROM projections.ai_agent_execution_steps"""
    assert sorted(await rows(pool, select), key=str) == [
        (1, "act", "crm_get", '{"id": 7}', '{"name": "Ann"}', 0),
        (1, "observe", "A contact was created.", None, None, 0),
        (1, "think", "I look.", None, None, 1_050),
        (2, "observe", "1 result", None, None, 0),
        (2, "think", "All is well.", None, None, 1_050),
    ]


async def test_a_call_that_was_started_and_doubted_is_settled_late(pool: Pool, journal: Journal) -> None:
    run = Stream().created().started().assembled().thought("", "mail_send").requested("mail_send")
    run.stream.say(ev.ToolStarted(execution_id=run.id, call_id=run.call_id(), tool="mail_send", runner="w1"))
    run.stream.say(ev.ToolInDoubt(execution_id=run.id, call_id=run.call_id(), tool="mail_send", runner="w1"))
    select = "SELECT status, runner, input::text, output::text FROM projections.ai_agent_tool_calls"
    await project(pool, journal, run.stream)
    assert await rows(pool, select) == [("in_doubt", "w1", '{"q": 1}', None)]
    await project(pool, journal, run.timed_out())
    await project(pool, journal, run.tool_completed("sent", "mail_send").stream)
    assert await rows(pool, select) == [("completed", "w1", '{"q": 1}', '"sent"')]
    assert await rows(pool, "SELECT status FROM projections.ai_agent_executions") == [("timed_out",)]


async def test_a_failed_call_keeps_its_error(pool: Pool, journal: Journal) -> None:
    run = Stream().created().started().assembled().thought("", "crm_get").requested()
    failed = ev.ToolFailed(
        execution_id=run.id, step=1, call_id=run.call_id(), tool="crm_get", error="404", output=None, duration_ms=3
    )
    await project(pool, journal, run.stream.say(failed))
    select = "SELECT status, error, duration_ms FROM projections.ai_agent_tool_calls"
    assert await rows(pool, select) == [("failed", "404", 3)]


async def test_skipped_triggers_and_refused_commands_are_kept(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    skipped = ev.TriggerSkipped(
        trigger_type="event", trigger_source="/crm", trigger_id="t", trigger_time_ms=START_MS, event_type="x",
        reason="quota", message="60 an hour",
    )  # fmt: skip
    rejected = ev.CommandRejected(command="ai.agent.activate", reason="deleted", message="It is gone.")
    stream.say(skipped).say(rejected, actor="user:bob")
    await project(pool, journal, stream)
    select = """SELECT kind, reason, message, actor, details->>'trigger_id' FROM projections.ai_agent_activity
      WHERE sequence > 2 ORDER BY sequence"""
    assert await rows(pool, select) == [
        ("trigger_skipped", "quota", "60 an hour", "system:decider", "t"),
        ("command_rejected", "deleted", "It is gone.", "user:bob", None),
    ]


async def test_a_schedule_says_when_it_was_due_and_when_it_comes_next(pool: Pool, journal: Journal) -> None:
    select = "SELECT schedule, last_due_at, next_due_at, due_count, missed_count FROM projections.ai_agent_schedules"
    stream = Stream().created().scheduled(None)
    await project(pool, journal, stream)
    begun = datetime.fromtimestamp(stream.at_ms / 1000, UTC)
    [(name, last, following, *counts)] = await rows(pool, select)
    assert (name, last, counts) == ("hourly @ UTC", None, [0, 0])
    assert isinstance(following, datetime)
    assert timedelta(minutes=59) < following - begun <= timedelta(hours=1)
    fresh = Stream(slug="b").created().scheduled(None, 1).scheduled(4, missed=2).scheduled(None, missed=1)
    await project(pool, journal, fresh)
    [_, (_, last, _, *counts)] = await rows(pool, select + " ORDER BY updated_at, due_count")
    assert counts == [2, 3]
    assert last == datetime.fromtimestamp((START_MS + 4 * 3_600_000) / 1000, UTC)


async def test_a_catalogue_is_kept_once_a_stream(pool: Pool, journal: Journal) -> None:
    catalogue = Catalogue()
    recorded = ev.CatalogueRecorded(sha256=catalogue.sha256, catalogue=catalogue)
    await project(pool, journal, Stream().created().say(recorded, recorded), Stream(slug="b").created().say(recorded))
    assert len(await rows(pool, "SELECT * FROM projections.ai_agent_catalogues")) == 2


async def test_nul_and_lone_surrogates_are_cleaned_and_stop_nothing(pool: Pool, journal: Journal) -> None:
    run = Stream().created().started("t\0", {"k\0": "v\0"}).assembled("a\0").thought("Hm\0.", "crm_get")
    run.stream.say_raw(
        "ai.step.observed",
        b'{"execution_id": "%b", "step": 2, "summary": "x\\ud800y", "prompt_sha256": ""}' % run.id.encode(),
    )
    await project(pool, journal, run.completed("ok\0"))
    select = "SELECT trigger_id, trigger_data::text, result FROM projections.ai_agent_executions"
    assert await rows(pool, select) == [("t\ufffd", '{"k\ufffd": "v\ufffd"}', "ok\ufffd")]
    select = "SELECT coalesce(input_text, reasoning) FROM projections.ai_agent_steps ORDER BY sequence"
    assert await rows(pool, select) == [("A contact was created.",), ("Hm\ufffd.",), ("x\ufffdy",)]


async def test_usage_equals_the_sum_over_the_log(pool: Pool, journal: Journal) -> None:
    stream = Stream(at_ms=START_MS - START_MS % 86_400_000 - 1_500).created()  # 1.5 s before midnight, UTC
    runs = []
    for number in range(4):
        run = stream.started(f"t{number}").assembled().model_failed(None).model_failed(Usage(input_tokens=7))
        run.attempt_failed(Usage(input_tokens=3), unsettled=True).attempt_failed(None, unsettled=True)
        run.attempt_failed(None, unsettled=False)
        run.thought("", "crm_get", "mail_send").requested().approval_requested(position=1).tool_completed(1)
        run.approval_resolved(approved=False, position=1).denied(position=1).observed("2")
        run.thought("Done").completed()
        run.metered(Usage(input_tokens=100, output_tokens=10, cached_tokens=50))
        runs.append(run)
    await project(pool, journal, stream)
    said = stream.said
    replies = [
        e
        for e in said
        if isinstance(e, ev.StepThought | ev.UsageMetered | ev.StepModelFailed | ev.StepAttemptFailed)
        and e.usage is not None
    ]
    usages = [e.usage for e in replies if e.usage is not None]
    expected = (
        sum(isinstance(e, ev.ExecutionStarted) for e in said),
        len(replies),
        sum(isinstance(e, ev.StepModelFailed) and e.usage is None for e in said)
        + sum(isinstance(e, ev.StepAttemptFailed) and e.usage is None and e.unsettled for e in said),
        sum(isinstance(e, ev.ToolRequested) for e in said),
        sum(isinstance(e, ev.ApprovalRequested) for e in said),
        sum(u.input_tokens for u in usages),
        sum(u.output_tokens for u in usages),
        sum(u.cached_tokens for u in usages),
    )
    sums = """sum(agent_runs), sum(llm_calls), sum(unsettled_calls), sum(tool_calls), sum(approvals), sum(tokens_input),
      sum(tokens_output), sum(tokens_cached)"""
    assert await rows(pool, f"SELECT {sums} FROM projections.ai_usage_daily") == [expected]
    assert [day for (day,) in await rows(pool, "SELECT date FROM projections.ai_usage_daily ORDER BY 1")] == [
        date(2026, 1, 23),
        date(2026, 1, 24),
    ]
    models = "SELECT currency, price_version, sum(cost_micros), sum(llm_calls) FROM projections.ai_usage_models_daily"
    by_price = {
        (currency, version): (
            sum(e.cost_micros for e in replies if (e.currency, e.price_version or "") == (currency, version)),
            sum((e.currency, e.price_version or "") == (currency, version) for e in replies),
        )
        for currency, version in {(e.currency, e.price_version or "") for e in replies}
    }
    found = await rows(pool, models + " GROUP BY currency, price_version")
    assert {(c, v): (cost, calls) for c, v, cost, calls in found} == by_price
    by_run = "SELECT sum(cost_micros), sum(llm_calls), sum(tool_calls) FROM projections.ai_agent_executions"
    assert await rows(pool, by_run) == [
        (sum(run.cost_micros for run in runs), sum(run.llm_calls for run in runs), sum(run.tool_calls for run in runs))
    ]
    assert await rows(pool, "SELECT total_agent_runs, period_end FROM projections.ai_usage_tracking") == [
        (4, date(2026, 1, 31))
    ]


async def test_what_rules_force_is_a_call_of_step_0_and_what_it_used_is_added_up(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    run = stream.started("t1")
    stream.say(ev.ContextAssembled(execution_id=run.id, memories=(), entity=None, catalogue_sha256=SHA))
    task: JsonObject = {"agent": "ann", "task": "Call."}
    call = ev.PlannedCall(call_id=run.call_id(), model_call_id="rule_0", tool="delegate", arguments=task)
    stream.say(ev.DelegationRuled(execution_id=run.id, rules=(RuleFound(rule=0, verdict="holds"),), calls=(call,)))
    run.requested("delegate")
    used = {"status": "completed", "runs": 2, "tokens_input": 9, "tokens_output": 1, "cost_micros": 7}
    outcome = Outcome.model_validate({"agent_id": stream.agent_id, "execution_id": run.id, **used})
    stream.say(ev.DelegationFinished(execution_id=run.id, call_id=call.call_id, outcome=outcome))
    run.tool_completed({"result": "Called."}, "delegate")
    await project(pool, journal, run.observed("delegate answered").thought("Done.").completed())
    select = "SELECT step_number, position, tool_name, status, input->>'agent' FROM projections.ai_agent_tool_calls"
    assert await rows(pool, select) == [(0, 0, "delegate", "completed", "ann")]
    select = (
        "SELECT current_step, llm_calls, delegated_runs, delegated_cost_micros FROM projections.ai_agent_executions"
    )
    assert await rows(pool, select) == [(1, 1, 2, 7)]
