"""Hand-made histories: real records, with headers and chain, as a decider would have written them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from schemas import events as ev
from schemas.agents import AgentConfig
from schemas.chat import Usage
from schemas.governance import Requester
from schemas.ids import (
    AgentId,
    ApprovalId,
    CallId,
    CommandId,
    ExecutionId,
    SiteId,
    agent_id_of,
    approval_id_of,
    call_id_of,
    event_id_of,
    execution_id_of,
    timed_id,
)
from schemas.message import Json, JsonObject
from schemas.module_events import Trigger
from streams.chain import CHAIN, NO_HEAD, Head, link
from streams.log import Draft
from streams.records import Said, encode_event, format_time

SITE = SiteId("11111111-1111-8111-8111-111111111111")
OTHER_SITE = SiteId("22222222-2222-8222-8222-222222222222")
START_MS = 1_769_246_999_500  # 2026-01-24T09:29:59.500Z
SHA = hashlib.sha256(b"").hexdigest()
LIMITS = ev.RunLimits(max_steps=10, max_tool_calls_per_step=3, timeout_seconds=120)


def config(slug: str = "greeter") -> AgentConfig:
    return AgentConfig(slug=slug, name=slug.title(), agent_type="assistant", system_prompt="Be kind.", domain="sales")


@dataclass(slots=True)
class Stream:
    """One agent's stream; `say` adds a record to `drafts`."""

    site_id: SiteId = SITE
    slug: str = "greeter"
    at_ms: int = START_MS
    drafts: list[Draft] = field(default_factory=list)
    head: Head = NO_HEAD
    said: list[ev.Event] = field(default_factory=list)

    @property
    def agent_id(self) -> AgentId:
        return agent_id_of(self.site_id, self.slug)

    def say(self, *events: ev.Event, after_ms: int = 100, actor: str = "system:decider") -> "Stream":
        self.at_ms += after_ms
        causation = CommandId(timed_id(self.at_ms, "command", self.agent_id, self.head.sequence))
        for index, event in enumerate(events):
            said = Said(
                event_id_of(self.at_ms, causation, self.head.sequence, index),
                self.site_id,
                self.agent_id,
                self.at_ms,
                causation,
                self.head.sequence,
                f"correlation-{self.slug}",
                actor,
                None,
                event,
            )
            draft, self.head = encode_event(said, self.head)
            self.drafts.append(draft)
            self.said.append(event)
        return self

    def say_raw(self, wire: str, value: bytes, version: int = 1) -> "Stream":
        """Say what no encoder of this release would: any type, any bytes; it counts all the same."""
        self.at_ms += 100
        headers = (
            ("ce_schemaversion", b"%d" % version),
            ("ce_sequence", b"%d" % (self.head.sequence + 1)),
            ("ce_siteid", self.site_id.encode()),
            ("ce_time", format_time(self.at_ms).encode()),
            ("ce_type", wire.encode()),
        )
        key = self.agent_id.encode()
        self.head = Head(self.head.sequence + 1, link(self.head.chain, key, headers, value))
        self.drafts.append(Draft(key, value, (*headers, (CHAIN, self.head.chain.hex().encode()))))
        return self

    def created(self) -> "Stream":
        whole = config(self.slug)
        created = ev.AgentCreated(
            id=self.agent_id,
            name=whole.name,
            type=whole.agent_type,
            domain=whole.domain,
            agent_version=1,
            config=whole,
        )
        self.say(created, actor="user:ann")
        return self.say(ev.AgentActivated(id=self.agent_id, name=whole.name), actor="user:ann")

    def changed(self, version: int, **changes: Json) -> "Stream":
        return self.say(ev.AgentUpdated(id=self.agent_id, agent_version=version, changes=changes), actor="user:bob")

    def progressed(
        self,
        goal: str,
        value: float,
        *,
        achieved_at_ms: int | None = None,
        period: tuple[int, int] | None = None,
    ) -> "Stream":
        return self.say(
            ev.GoalProgressed(
                goal=goal,
                event_source="/crm",
                event_id=f"e{len(self.said)}",
                event_type="crm.deal.won",
                event_time_ms=self.at_ms,
                amount=1.5,
                delta=1.5,
                value=value,
                total=value,
                count=2,
                achieved=achieved_at_ms is not None,
                achieved_at_ms=achieved_at_ms,
                period_start_ms=period[0] if period else None,
                period_end_ms=period[1] if period else None,
            )
        )

    def scheduled(self, *dues: int | None, missed: int = 0) -> "Stream":
        """Follow an hourly schedule: a time that was due, by its hour, or None for one that was only planned."""
        for due in dues:
            until = self.at_ms if due is None else START_MS + due * 3_600_000
            self.say(
                ev.ScheduleAdvanced(
                    schedule="hourly @ UTC",
                    due_ms=None if due is None else until,
                    missed=missed,
                    until_ms=until,
                    next_due_ms=until + 3_600_000,
                )
            )
        return self

    def deleted(self) -> "Stream":
        return self.say(ev.AgentDeleted(id=self.agent_id, name=self.slug), actor="user:cy")

    def started(self, name: str = "t1", data: Json = None, requester: str | None = None) -> "Run":
        at_ms = self.at_ms + 100
        run = Run(self, execution_id_of(at_ms, self.agent_id, "/crm", name))
        trigger = Trigger(
            type="event", source="/crm", id=name, event_type="contact.created", time_ms=at_ms, data=data, subject="c1"
        )
        self.say(
            ev.ExecutionStarted(
                execution_id=run.id,
                agent_id=self.agent_id,
                trigger_type="event",
                trigger=trigger,
                agent_version=1,
                limits=LIMITS,
                requester=None if requester is None else Requester(actor=requester),
            )
        )
        return run


@dataclass(slots=True)
class Run:
    """One run of a stream. Methods say one event each, unless noted."""

    stream: Stream
    id: ExecutionId
    step: int = 0
    tokens: int = 0
    cost_micros: int = 0
    llm_calls: int = 0
    tool_calls: int = 0
    actions: list[ev.ActionTaken] = field(default_factory=list)

    def assembled(self, entity: Json = None) -> "Run":
        self.stream.say(ev.ContextAssembled(execution_id=self.id, memories=(), entity=entity, catalogue_sha256=SHA))
        return self.observed("A contact was created.")

    def observed(self, summary: str = "", *calls: CallId) -> "Run":
        self.step += 1
        self.stream.say(
            ev.StepObserved(
                execution_id=self.id, step=self.step, summary=summary, calls=calls, final=False, prompt_sha256=SHA
            ),
            after_ms=0,
        )
        return self

    def call_id(self, position: int = 0) -> CallId:
        return call_id_of(START_MS, self.id, self.step, position)

    def approval_id(self, position: int = 0, edition: int = 0) -> ApprovalId:
        return approval_id_of(START_MS, self.call_id(position), edition)

    def thought(self, text: str, *tools: str, usage: Usage | None = None, arguments: Json = None) -> "Run":
        spent = usage or Usage(input_tokens=1_000, output_tokens=50, cached_tokens=600)
        self.count(spent, 1_234)
        calls = tuple(
            ev.PlannedCall(
                call_id=self.call_id(position), model_call_id=f"m{position}", tool=tool, arguments=arguments or {"q": 1}
            )
            for position, tool in enumerate(tools)
        )
        self.stream.say(
            ev.StepThought(
                execution_id=self.id,
                step=self.step,
                reply_id=f"{self.id}/{self.step}",
                provider="openai",
                model="gpt-4o",
                text=text,
                calls=calls,
                finish_reason="tool_calls" if calls else "stop",
                usage=spent,
                cost_micros=1_234,
                currency="USD",
                price_version="2026-01",
                latency_ms=700,
            )
        )
        return self

    def count(self, usage: Usage, cost_micros: int) -> None:
        self.tokens += usage.input_tokens + usage.output_tokens
        self.cost_micros += cost_micros
        self.llm_calls += 1

    def model_failed(self, usage: Usage | None) -> "Run":
        if usage is not None:
            self.count(usage, 77)
        self.stream.say(
            ev.StepModelFailed(
                execution_id=self.id,
                step=self.step,
                reply_id=f"{self.id}/{self.step}/failed",
                provider="openai",
                model="gpt-4o",
                reason="server_error",
                message="",
                usage=usage,
                cost_micros=0 if usage is None else 77,
                currency="USD",
                price_version=None,
            )
        )
        return self

    def attempt_failed(self, usage: Usage | None, *, unsettled: bool) -> "Run":
        if usage is not None:
            self.count(usage, 55)
        self.stream.say(
            ev.StepAttemptFailed(
                execution_id=self.id,
                step=self.step,
                reply_id=f"{self.id}/{self.step}/tried",
                provider="openai",
                model="gpt-4o",
                reason="cut_stream",
                message="",
                usage=usage,
                unsettled=unsettled,
                cost_micros=0 if usage is None else 55,
                currency="USD",
                price_version=None,
            )
        )
        return self

    def metered(self, usage: Usage) -> "Run":
        self.count(usage, 99)
        self.stream.say(
            ev.UsageMetered(
                execution_id=self.id,
                step=self.step,
                reply_id=f"{self.id}/{self.step}/late",
                provider="anthropic",
                model="claude",
                reason="late",
                usage=usage,
                cost_micros=99,
                currency="EUR",
                price_version="2025-12",
            )
        )
        return self

    def requested(self, tool: str = "crm_get", position: int = 0) -> "Run":
        self.tool_calls += 1
        call_id = self.call_id(position)
        self.stream.say(
            ev.ToolRequested(
                execution_id=self.id,
                step=self.step,
                call_id=call_id,
                tool=tool,
                tool_version="1",
                call_sha256=SHA,
                idempotency_key=str(call_id),
            ),
            after_ms=0,
        )
        return self

    def tool_completed(self, output: Json, tool: str = "crm_get", position: int = 0) -> "Run":
        call_id = self.call_id(position)
        self.actions.append(ev.ActionTaken(call_id=call_id, tool=tool, status="completed"))
        self.stream.say(
            ev.ToolCompleted(
                execution_id=self.id,
                step=self.step,
                call_id=call_id,
                tool=tool,
                output=output,
                full_bytes=None,
                full_sha256=None,
                duration_ms=40,
            )
        )
        return self

    def approval_requested(
        self, tool: str = "mail_send", position: int = 0, arguments: JsonObject | None = None
    ) -> "Run":
        self.stream.say(
            ev.ApprovalRequested(
                execution_id=self.id,
                approval_id=self.approval_id(position),
                agent_id=self.stream.agent_id,
                step=self.step,
                call_id=self.call_id(position),
                action_type=tool,
                action_description="Send a mail",
                risk_level="high",
                risk_explanation="It leaves the house.",
                call_sha256=SHA,
                expires_at_ms=self.stream.at_ms + 60_000,
                arguments=arguments,
            ),
            after_ms=0,
        )
        return self

    def approval_edited(self, arguments: JsonObject, tool: str = "mail_send", position: int = 0) -> "Run":
        """A person asks for the call with other arguments: two events."""
        self.stream.say(
            ev.ApprovalResolved(
                execution_id=self.id,
                approval_id=self.approval_id(position),
                call_id=self.call_id(position),
                approved=False,
                resolved_by="user:bob",
                note="not so much",
                replaced_by=self.approval_id(position, 1),
            ),
            actor="user:bob",
        )
        self.stream.say(
            ev.ApprovalRequested(
                execution_id=self.id,
                approval_id=self.approval_id(position, 1),
                agent_id=self.stream.agent_id,
                step=self.step,
                call_id=self.call_id(position),
                action_type=tool,
                action_description="Send another mail",
                risk_level="high",
                risk_explanation="It leaves the house.",
                call_sha256=SHA[::-1],
                expires_at_ms=self.stream.at_ms + 60_000,
                arguments=arguments,
                edited_by="user:bob",
                replaces=self.approval_id(position),
            ),
            after_ms=0,
            actor="user:bob",
        )
        return self

    def approval_escalated(self, position: int = 0) -> "Run":
        self.stream.say(
            ev.ApprovalEscalated(
                execution_id=self.id,
                approval_id=self.approval_id(position),
                call_id=self.call_id(position),
                role="manager",
                expires_at_ms=self.stream.at_ms + 3_600_000,
            )
        )
        return self

    def approval_resolved(self, approved: bool, position: int = 0, edition: int = 0) -> "Run":
        self.stream.say(
            ev.ApprovalResolved(
                execution_id=self.id,
                approval_id=self.approval_id(position, edition),
                call_id=self.call_id(position),
                approved=approved,
                resolved_by="user:bob" if edition == 0 else "user:cho",
                note="fine",
            ),
            actor="user:bob",
        )
        return self

    def approval_expired(self, position: int = 0) -> "Run":
        self.stream.say(
            ev.ApprovalExpired(
                execution_id=self.id, approval_id=self.approval_id(position), call_id=self.call_id(position)
            )
        )
        return self

    def denied(self, tool: str = "mail_send", position: int = 0) -> "Run":
        self.stream.say(
            ev.ToolDenied(
                execution_id=self.id,
                step=self.step,
                call_id=self.call_id(position),
                tool=tool,
                reason="approval",
                message="A person said no.",
            ),
            after_ms=0,
        )
        return self

    def totals(self) -> ev.RunTotals:
        return ev.RunTotals(
            steps=self.step,
            llm_calls=self.llm_calls,
            tool_calls=self.tool_calls,
            tokens_input=self.tokens,
            tokens_output=0,
            cost_micros=self.cost_micros,
        )

    def completed(self, result: str = "Done.") -> Stream:
        return self.stream.say(
            ev.ExecutionCompleted(
                execution_id=self.id,
                agent_id=self.stream.agent_id,
                result=result,
                actions_taken=tuple(self.actions),
                tokens_used=self.tokens,
                totals=self.totals(),
                duration_ms=2_000,
            ),
            after_ms=0,
        )

    def failed(self) -> Stream:
        return self.stream.say(
            ev.ExecutionFailed(
                execution_id=self.id,
                agent_id=self.stream.agent_id,
                reason="model_failed",
                error="No model answered.",
                actions_taken=(),
                tokens_used=self.tokens,
                totals=self.totals(),
                duration_ms=3_000,
            ),
            after_ms=0,
        )

    def cancelled(self) -> Stream:
        return self.stream.say(
            ev.ExecutionCancelled(
                execution_id=self.id,
                agent_id=self.stream.agent_id,
                reason="not needed",
                cancelled_by="user:ann",
                actions_taken=(),
                tokens_used=self.tokens,
                totals=self.totals(),
                duration_ms=4_000,
            )
        )

    def timed_out(self) -> Stream:
        return self.stream.say(
            ev.ExecutionTimedOut(
                execution_id=self.id,
                agent_id=self.stream.agent_id,
                timeout_seconds=120,
                actions_taken=(),
                tokens_used=self.tokens,
                totals=self.totals(),
                duration_ms=120_000,
            )
        )


def usual_run(stream: Stream, name: str, data: Json = None, steps: int = 3) -> Stream:
    """Say a run of some tool calls (15 events with three), which completes."""
    run = stream.started(name, data).assembled()
    for number in range(steps):
        run.thought("Let me look.", "crm_get", arguments={"id": name, "number": number}).requested()
        run.tool_completed({"rows": [{"id": number, "name": name}]}).observed("1 result", run.call_id())
    return run.thought("All is well.").completed(f"Result of {name}")


def varied_run(stream: Stream, name: str, random: Random) -> Stream:
    """Say a run that takes one of the ways a run can take."""
    run = stream.started(name, {"n": random.random()}).assembled({"name": name})
    way = random.randrange(7)
    if way == 0:
        return run.model_failed(None).model_failed(Usage(input_tokens=10, output_tokens=1)).failed()
    run.thought("Two things.", "crm_get", "mail_send").requested().approval_requested(position=1)
    if way == 1:
        return run.cancelled()
    run.tool_completed(None if way == 2 else {"way": way})
    if way == 2:
        run.approval_edited({"to": name}, position=1).approval_resolved(approved=True, position=1, edition=1)
        run.requested("mail_send", 1).tool_completed("sent", "mail_send", 1)
    elif way == 3:
        run.approval_escalated(1)
        run.approval_resolved(approved=True, position=1).requested("mail_send", 1)
        run.tool_completed("sent", "mail_send", 1)
    elif way == 4:
        run.approval_expired(1).denied(position=1)
    else:
        run.approval_resolved(approved=False, position=1).denied(position=1)
    run.observed("2 results").metered(Usage(input_tokens=5, output_tokens=5))
    ended = run.timed_out() if way == 5 else run.thought("Done").completed()
    run.metered(Usage(input_tokens=3))  # a reply that came after the end
    return ended


def interleaved(streams: list[Stream], random: Random) -> Iterator[Draft]:
    """Yield all records of some streams, each in order, mixed."""
    rest = [iter(stream.drafts) for stream in streams]
    while rest:
        chosen = random.choice(rest)
        draft = next(chosen, None)
        if draft is None:
            rest.remove(chosen)
        else:
            yield draft
