"""A batch: what some records of the log change in the tables, one row a key, written by one statement a table."""

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from projections.activity import ACTIVITY, CATALOGUES, ActivityRow, CatalogueRow
from projections.agents import AGENTS, STATS, AgentDelta, StatsDelta
from projections.approvals import APPROVALS, ApprovalDelta
from projections.db import Db, Row, Statement
from projections.executions import EXECUTIONS, RunDelta
from projections.facts import Fact, as_json, uuid_text
from projections.goals import GOALS, GOALS_DROPPED, GoalRow, KeptGoals
from projections.memories import MEMORIES, MemoryRow
from projections.reports import REPORTS, ReportRow
from projections.schedules import SCHEDULES, ScheduleDelta
from projections.steps import STEPS, StepRow
from projections.stream_heads import STREAM_HEADS, HeadRow
from projections.tool_calls import TOOL_CALLS, CallDelta
from projections.usage import MODEL_USAGE, USAGE, ModelUsageDelta, UsageDelta

Key = tuple[str, str]  # (site_id, id)


class Batch:
    """Deltas by key. A getter makes the delta where the batch has none yet."""

    def __init__(self) -> None:
        self.runs: dict[Key, RunDelta] = {}
        self.calls: dict[Key, CallDelta] = {}
        self.steps: list[StepRow] = []
        self.approvals: dict[Key, ApprovalDelta] = {}
        self.agents: dict[Key, AgentDelta] = {}
        self.stats: dict[Key, StatsDelta] = {}
        self.usage: dict[tuple[str, date, str], UsageDelta] = {}
        self.model_usage: dict[tuple[str, date, str, str, str, str, str], ModelUsageDelta] = {}
        self.activity: list[ActivityRow] = []
        self.catalogues: dict[tuple[str, str, str], CatalogueRow] = {}
        self.schedules: dict[tuple[str, str, str], ScheduleDelta] = {}
        self.reports: dict[Key, ReportRow] = {}
        self.memories: list[MemoryRow] = []
        self.heads: list[HeadRow] = []
        self.goals: dict[Key, dict[str, GoalRow]] = {}
        self.kept_goals: dict[Key, set[str]] = {}

    def run(self, fact: Fact) -> RunDelta:
        """Return the delta of the event's run, moved on to this event."""
        execution_id = fact.data["execution_id"]
        key = (fact.site_id, execution_id)
        run = self.runs.get(key)
        if run is None:
            self.runs[key] = run = RunDelta(
                fact.site_id,
                uuid_text(execution_id),
                fact.agent_id,
                fact.at,
                fact.header("ce_correlationid"),
                fact.at,
                fact.sequence,
            )
        else:
            run.updated_at = fact.at
            run.last_sequence = fact.sequence
        return run

    def call(self, fact: Fact, call_id: str, tool: str, status: str) -> CallDelta:
        """Return the delta of a tool call, with its new status."""
        key = (fact.site_id, call_id)
        call = self.calls.get(key)
        if call is None:
            self.calls[key] = call = CallDelta(
                fact.site_id,
                uuid_text(call_id),
                uuid_text(fact.data["execution_id"]),
                fact.agent_id,
                fact.at,
                tool,
                status,
            )
        else:
            call.status = status
        return call

    def approval(self, fact: Fact, status: str) -> ApprovalDelta:
        """Return the delta of the event's approval, with its new status."""
        data = fact.data
        key = (fact.site_id, data["approval_id"])
        approval = self.approvals.get(key)
        if approval is None:
            self.approvals[key] = approval = ApprovalDelta(
                fact.site_id,
                uuid_text(data["approval_id"]),
                uuid_text(data["execution_id"]),
                fact.agent_id,
                uuid_text(data["call_id"]),
                fact.at,
                status,
            )
        else:
            approval.status = status
        return approval

    def agent(self, fact: Fact) -> AgentDelta:
        """Return the delta of the stream's agent, moved on to this event."""
        key = (fact.site_id, fact.agent_id)
        agent = self.agents.get(key)
        if agent is None:
            actor = fact.header("ce_actor")
            self.agents[key] = agent = AgentDelta(*key, fact.at, actor, fact.at, actor)
        else:
            agent.updated_at = fact.at
            agent.updated_by = fact.header("ce_actor")
        return agent

    def goals_of(self, fact: Fact) -> dict[str, GoalRow]:
        """Return the progress of the goals of the stream's agent, by name."""
        return self.goals.setdefault((fact.site_id, fact.agent_id), {})

    def keep_goals(self, fact: Fact, names: set[str]) -> None:
        """Keep the progress of these goals of the stream's agent only: of what a batch before has written, too."""
        key = (fact.site_id, fact.agent_id)
        self.kept_goals[key] = self.kept_goals.get(key, names) & names
        self.goals[key] = {name: row for name, row in self.goals.get(key, {}).items() if name in names}

    def stats_of(self, fact: Fact) -> StatsDelta:
        """Return what is added to the figures of the stream's agent."""
        key = (fact.site_id, fact.agent_id)
        stats = self.stats.get(key)
        if stats is None:
            self.stats[key] = stats = StatsDelta(*key)
        return stats

    def usage_of(self, fact: Fact) -> UsageDelta:
        """Return what is added to the agent's day."""
        key = (fact.site_id, fact.at.date(), fact.agent_id)
        usage = self.usage.get(key)
        if usage is None:
            self.usage[key] = usage = UsageDelta(*key)
        return usage

    def model_usage_of(self, fact: Fact) -> ModelUsageDelta:
        """Return what is added to what the event's model cost the agent that day."""
        data: dict[str, Any] = fact.data
        key = (
            fact.site_id,
            fact.at.date(),
            fact.agent_id,
            data["provider"],
            data["model"],
            data["currency"],
            data["price_version"] or "",
        )
        usage = self.model_usage.get(key)
        if usage is None:
            self.model_usage[key] = usage = ModelUsageDelta(*key)
        return usage

    async def write(self, db: Db) -> None:
        """Write everything; the caller holds the transaction, and the checkpoint's lock in it."""
        for statement, rows in self._tables():
            await statement.write(db, list(rows))

    def _tables(self) -> tuple[tuple[Statement, Iterable[Row]], ...]:
        return (
            (AGENTS, self.agents.values()),
            (CATALOGUES, self.catalogues.values()),
            (ACTIVITY, self.activity),
            (
                GOALS_DROPPED,
                [KeptGoals(*key, as_json(sorted(names)) or "[]") for key, names in self.kept_goals.items()],
            ),
            (GOALS, [row for rows in self.goals.values() for row in rows.values()]),
            (EXECUTIONS, self.runs.values()),
            (STEPS, self.steps),
            (TOOL_CALLS, self.calls.values()),
            (APPROVALS, self.approvals.values()),
            (REPORTS, self.reports.values()),
            (MEMORIES, self.memories),
            (STATS, self.stats.values()),
            (USAGE, self.usage.values()),
            (MODEL_USAGE, self.model_usage.values()),
            (SCHEDULES, self.schedules.values()),
            (STREAM_HEADS, self.heads),
        )


Handler = Callable[[Batch, Fact, dict[str, Any]], None]  # adds what follows from a fact, given its data too
