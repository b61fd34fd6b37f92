"""What must hold of a world, whatever went wrong in it: read from the raw log and the outside's ledger alone.

The numbers are those of the project's list of guarantees. Only `I4` and `replay` use the house's own fold and decider.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streams.cloudevents import from_record
from streams.topics import COMMANDS, MODULE_EVENTS
from tests.simulation import families, slots
from tests.simulation.budgets import reserved_first, within_the_cap
from tests.simulation.facts import ENDS, Facts, Said, read_facts
from tests.simulation.outside import TOOLS
from tests.simulation.replaying import differences, other_states
from tests.simulation.world import World

HOUR_MS = 3_600_000
TRIGGER_KEPT_MS = 8 * 24 * HOUR_MS
TRIGGER_AHEAD_MS = 24 * HOUR_MS
GATED = frozenset(tool.name for tool in TOOLS if tool.is_dangerous)
AFTER_THE_END = frozenset(
    {"tool.completed", "tool.failed", "usage.metered", "command.rejected", "delegation.finished", "delegation.reported"}
)
REPLIES = {"step.record_thought", "step.record_model_failure"}
PAID = REPLIES | {"step.record_attempt"}  # after an attempt, the model may be asked again


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken, and by what."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


Check = Callable[[World, Facts], Iterator[str]]


def check_routed(world: World) -> list[Violation]:
    """Return which triggers are lost, before any is sent again much later."""
    return _broken({"I1 triggers": _triggers_kept, "I1 events": _module_events_kept}, world)


def check(world: World, stuck: str | None) -> list[Violation]:
    """Return every rule that is broken, with its first example; `stuck`: what never came to rest."""
    broken = [Violation("I12 liveness", stuck)] if stuck is not None else []
    broken += [Violation("I12 processes", death) for death in world.deaths[:1]]
    broken += [Violation("tasks", text) for text in _failures(world)][:1]
    return broken + _broken(ALWAYS | ({} if stuck is not None else AT_REST), world)


def _broken(checks: dict[str, Check], world: World) -> list[Violation]:
    facts = read_facts(world.broker)
    found = ((rule, next(look(world, facts), None)) for rule, look in checks.items())
    return [Violation(rule, first) for rule, first in found if first is not None]


def _failures(world: World) -> Iterator[str]:
    yield from world.loop.failures
    for task in world.loop.tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            yield f"a task failed: {error!r}"


# --- I1: nothing lost -----------------------------------------------------------------------------------------------


def _outcomes(facts: Facts) -> dict[tuple[str, str, str], list[str]]:
    """Return what became of each trigger, by agent, source and id; `skipped out of time` is of its own time alone."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for agent, events in facts.said.items():
        for event in events:
            if event.type == "execution.started":
                trigger = event.data["trigger"]
                late = " out of time" if _out_of_time(event, trigger["time_ms"]) else ""
                found[agent, trigger["source"], trigger["id"]].append(f"started{late}")
            elif event.type == "agent.trigger_skipped":
                late = " out of time" if _out_of_time(event, event.data["trigger_time_ms"]) else ""
                found[agent, event.data["trigger_source"], event.data["trigger_id"]].append(f"skipped{late}")
    return found


def _out_of_time(event: Said, time_ms: int) -> bool:
    return event.at_ms > time_ms + TRIGGER_KEPT_MS or time_ms > event.at_ms + TRIGGER_AHEAD_MS


def _triggers_once(world: World, facts: Facts) -> Iterator[str]:
    for (_, source, id_), outcomes in _outcomes(facts).items():
        # A trigger out of its time is not remembered: each copy of it is skipped, and none ever started.
        if (
            len([outcome for outcome in outcomes if outcome != "skipped out of time"]) > 1
            or "started out of time" in outcomes
        ):
            yield f"the trigger {source} {id_} has several outcomes: {outcomes}"


def _triggers_kept(world: World, facts: Facts) -> Iterator[str]:
    outcomes = _outcomes(facts)
    for asked in facts.asked:
        if asked.type == "execution.start":
            trigger = asked.data["trigger"]
            if not outcomes[asked.agent, trigger["source"], trigger["id"]]:
                yield f"command {asked.partition}/{asked.offset}, trigger {trigger['id']}, has no outcome"


def _module_events_kept(world: World, facts: Facts) -> Iterator[str]:
    outcomes = _outcomes(facts)
    for published in world.published:
        if (MODULE_EVENTS, published.partition, published.offset) in facts.letters:
            continue
        (record,) = world.broker.read(MODULE_EVENTS, published.partition, published.offset, 1)
        event = from_record(record, now=0)
        if not event.type.startswith("contact."):
            continue
        for agent, events in facts.said.items():
            if _listens(events, published.ends) and not outcomes[agent, event.source, event.id]:
                yield f"the module event {event.id} at {published.offset} never reached the agent {agent}"


def _listens(events: list[Said], ends: tuple[int, ...]) -> bool:
    """Whether an agent was activated before these offsets, and not deleted afterwards."""
    active = False
    for event in events:
        if event.type == "agent.activated" and event.offset < ends[event.partition]:
            active = True
        elif event.type == "agent.deleted":
            active = False
    return active


def _people_answered(world: World, facts: Facts) -> Iterator[str]:
    for asked in facts.asked:
        if asked.actor.startswith("user:") and not facts.by_cause[asked.partition, asked.offset]:
            yield f"the command {asked.type} at {asked.partition}/{asked.offset} of a person has no answer"


def _dead_letters(world: World, facts: Facts) -> Iterator[str]:
    for place in world.poison:
        if place not in facts.letters:
            yield f"{place} can't be read, and is not among the dead letters"
    for (topic, partition, offset), letter in facts.letters.items():
        (record,) = world.broker.read(topic, partition, offset, 1)
        if (record.key, record.value) != (letter.key, letter.value):
            yield f"the dead letter of {topic}/{partition}/{offset} has other bytes"
        known = [e for e in facts.said.get((record.key or b"").decode("latin-1"), ()) if e.cause < offset]
        if topic == COMMANDS and known and (topic, partition, offset) not in world.poison:
            yield f"command {partition}/{offset} is among the dead letters, though its agent was known"


def _ended_once(world: World, facts: Facts) -> Iterator[str]:
    ends = facts.of_runs(*ENDS)
    for event in facts.all("execution.started"):
        if len(ends[event.run]) > 1:
            yield f"the run {event.run} ended {len(ends[event.run])} times"


def _ended_at_all(world: World, facts: Facts) -> Iterator[str]:
    ends = facts.of_runs(*ENDS)
    answered = {event.data["call_id"] for event in facts.all("approval.resolved", "approval.expired")}
    waiting = {e.run for e in facts.all("approval.requested") if e.data["call_id"] not in answered}
    for event in facts.all("execution.started"):
        if not ends[event.run] and event.run not in waiting:
            yield f"the run {event.run} never ended"


# --- I3: one order --------------------------------------------------------------------------------------------------


def _ordered(world: World, facts: Facts) -> Iterator[str]:
    for agent, events in facts.said.items():
        at_ms = cause = -1
        ended: set[str] = set()
        for event in events:
            if event.at_ms < at_ms or event.cause < cause:
                yield f"{agent}#{event.sequence} {event.type} is of an earlier time or command than the one before"
            if event.run in ended and event.type not in AFTER_THE_END:
                yield f"{agent}#{event.sequence} {event.type} comes after its run's end"
            at_ms, cause = event.at_ms, event.cause
            if event.type in ENDS:
                ended.add(event.run)


def _named_once(world: World, facts: Facts) -> Iterator[str]:
    ids: set[str] = set()
    for event in (event for events in facts.said.values() for event in events):
        if event.id in ids:
            yield f"{event.agent}#{event.sequence} {event.type} has an id that another event has"
        ids.add(event.id)


# --- I6: every reply is paid for once -------------------------------------------------------------------------------


def _paid_once(world: World, facts: Facts) -> Iterator[str]:
    paid = Counter(e.data["reply_id"] for e in _spent(facts))
    for reply, times in paid.items():
        if times > 1:
            yield f"the reply {reply} is metered {times} times"
    for event in _spent(facts):
        usage = event.data["usage"]
        if event.data["cost_micros"] != usage["input_tokens"] * 2 + usage["output_tokens"] * 10:
            yield f"the reply {event.data['reply_id']} costs {event.data['cost_micros']}"
    spent = defaultdict[str, int](int)
    for event in facts.all("step.thought", "step.model_failed", "step.attempt_failed"):
        spent[event.run] += event.data["cost_micros"]
    for event in facts.all(*ENDS):
        if event.data["totals"]["cost_micros"] != spent[event.run]:
            yield f"the run {event.run} says it cost {event.data['totals']['cost_micros']}, not {spent[event.run]}"


def _paid_at_all(world: World, facts: Facts) -> Iterator[str]:
    paid = {event.data["reply_id"] for event in _spent(facts)}
    for asked in facts.asked:
        if asked.type in PAID and asked.data["usage"] is not None and asked.data["reply_id"] not in paid:
            yield f"the reply {asked.data['reply_id']} at {asked.partition}/{asked.offset} is not metered"


def _told(world: World, facts: Facts) -> Iterator[str]:
    """A process that lives has told what it got, whatever became of the run: it was paid for, or it was done."""
    alive = {slot.host.name for slot in world.slots if slot.host is not None}
    replies = {asked.data["reply_id"] for asked in facts.asked if asked.type in REPLIES}
    for process, reply in world.ledger.replies:
        if process in alive and reply not in replies:
            yield f"{process} got the reply {reply}, and never told the log"
    results = {asked.data["call_id"] for asked in facts.asked if asked.type == "tool.record_result"}
    for call in world.ledger.tools:
        if call.process in alive and not call.idempotent and call.call_id not in results:
            yield f"{call.process} made the call {call.call_id}, and never told the log what came of it"


def _spent(facts: Facts) -> Iterator[Said]:
    for event in facts.all("step.thought", "step.model_failed", "step.attempt_failed", "usage.metered"):
        if event.data["usage"] is not None:
            yield event


# --- I7: effects ----------------------------------------------------------------------------------------------------


def _only_what_was_requested(world: World, facts: Facts) -> Iterator[str]:
    requested = {e.data["call_id"]: e for e in facts.all("tool.requested")}
    begun = Counter(asked.call_id for asked in world.ledger.tools if not asked.idempotent)
    for call, times in begun.items():
        if times > 1:
            yield f"the call {call} can't be repeated, and was made {times} times"
    started = {e.data["call_id"]: e for e in facts.all("tool.started")}
    for asked in world.ledger.tools:
        request = requested.get(asked.call_id)
        if request is None or request.offset >= asked.events_end:
            yield f"the call {asked.call_id} was made before its request stood in the log and counted"
        elif request.data["call_sha256"] != asked.sha256:
            yield f"the call {asked.call_id} was made with other arguments than were requested"
        if not asked.idempotent:
            start = started.get(asked.call_id)
            if start is None or start.offset >= asked.events_end:
                yield f"the call {asked.call_id} was begun before that stood in the log"
    observed = {(e.run, e.data["step"]): e for e in facts.all("step.observed")}
    for question in world.ledger.models:
        there = observed.get((question.execution_id, question.step))
        if there is None or there.offset >= question.events_end:
            yield f"step {question.step} of {question.execution_id} was asked before that stood in the log"


def _not_asked_again(world: World, facts: Facts) -> Iterator[str]:
    """No process asks what was answered before it started."""
    answers: dict[object, int] = {}
    for asked in facts.asked:
        if asked.type == "tool.record_result":
            answers.setdefault(asked.data["call_id"], asked.offset)
        elif asked.type in REPLIES:
            answers.setdefault((asked.data["execution_id"], asked.data["step"]), asked.offset)
    partitions = {agent: events[0].partition for agent, events in facts.said.items()}
    for tool in world.ledger.tools:
        since = world.started[tool.process][partitions[tool.agent_id]]
        if answers.get(tool.call_id, since) < since:
            yield f"{tool.process} made the call {tool.call_id}, whose result stood in the log when it started"
    for model in world.ledger.models:
        since = world.started[model.process][partitions[model.agent_id]]
        if answers.get((model.execution_id, model.step), since) < since:
            yield f"{model.process} asked step {model.step} of {model.execution_id}, answered before it started"


def _one_result(world: World, facts: Facts) -> Iterator[str]:
    requested = {e.data["call_id"]: e for e in facts.all("tool.requested")}
    for call, times in Counter(e.data["call_id"] for e in facts.all("tool.completed", "tool.failed")).items():
        if times > 1:
            yield f"the call {call} has {times} results"
        if call not in requested:
            yield f"the call {call} has a result and no request"


def _settled(world: World, facts: Facts) -> Iterator[str]:
    results = {e.data["call_id"] for e in facts.all("tool.completed", "tool.failed", "tool.in_doubt")}
    for event in facts.all("tool.started"):
        if event.data["call_id"] not in results:
            yield f"the call {event.data['call_id']} was begun, and has neither a result nor a doubt"


# --- I8: approvals --------------------------------------------------------------------------------------------------


def _approved(world: World, facts: Facts) -> Iterator[str]:
    asked = {e.data["call_id"]: e for e in facts.all("approval.requested")}
    granted: dict[str, Said] = {}
    for event in facts.all("approval.resolved"):
        call, request = event.data["call_id"], asked.get(event.data["call_id"])
        if call in granted:
            yield f"the approval of {call} is resolved twice"
        granted[call] = event
        if request is None or request.sequence > event.sequence or event.at_ms >= request.data["expires_at_ms"]:
            yield f"the approval of {call} is resolved without a request, or after it expired"
    for event in facts.all("tool.requested"):
        call = event.data["call_id"]
        if event.data["tool"] not in GATED:
            continue
        grant = granted.get(call)
        if grant is None or not grant.data["approved"] or grant.sequence > event.sequence:
            yield f"the risky call {call} was requested without an approval"
        elif asked[call].data["call_sha256"] != event.data["call_sha256"]:
            yield f"the risky call {call} is not the one that was approved"


# --- I11: caps ------------------------------------------------------------------------------------------------------


def _capped(world: World, facts: Facts) -> Iterator[str]:
    for events in facts.said.values():
        config: dict[str, int] = {}
        starts: list[int] = []
        live: set[str] = set()
        for event in events:
            if event.type == "agent.created":
                config = event.data["config"]
            elif event.type == "agent.updated":
                config = config | event.data["changes"]
            elif event.type in ENDS:
                live.discard(event.run)
            elif event.type == "execution.started":
                recent = [at for at in starts if at > event.at_ms - HOUR_MS]
                if len(live) >= config["max_concurrent_runs"] or len(recent) >= config["max_runs_per_hour"]:
                    yield f"{event.run} is started with {len(live)} live runs and {len(recent)} within an hour"
                live.add(event.run)
                starts.append(event.at_ms)
    limits = {event.run: event.data["limits"] for event in facts.all("execution.started")}
    for event in facts.all("step.observed"):
        if event.data["step"] > limits[event.run]["max_steps"] + 1:
            yield f"the run {event.run} has step {event.data['step']}"
    calls = Counter((e.run, e.data["step"]) for e in facts.all("tool.requested"))
    for (run, step), count in calls.items():
        if step != families.FORCED_STEP and count > limits[run]["max_tool_calls_per_step"]:
            yield f"step {step} of {run} has {count} calls"


ALWAYS: dict[str, Check] = {
    "I1 once": _triggers_once,
    "I1 one end": _ended_once,
    "I3 order": _ordered,
    "I3 ids": _named_once,
    "I6 once": _paid_once,
    "I7 requested": _only_what_was_requested,
    "I7 again": _not_asked_again,
    "I7 results": _one_result,
    "I8 approved": _approved,
    "I11 caps": _capped,
    "I11 delegation": families.within_limits,
    "I7 one child": families.one_child,
    "I7 told once": families.told_once,
    "I7 forced": families.as_forced,
    "I1 slots": slots.fired_once,
    "I1 counted": slots.counted,
    "I11 reserved": reserved_first,
    "I11 costs": within_the_cap,
}
AT_REST: dict[str, Check] = {
    "I1 triggers": _triggers_kept,
    "I1 events": _module_events_kept,
    "I1 people": _people_answered,
    "I1 letters": _dead_letters,
    "I6 all": _paid_at_all,
    "I6 told": _told,
    "I7 settled": _settled,
    "I7 finished": families.all_finished,
    "I7 cancelled": families.cancelled_below,
    "I1 followed": slots.followed,
    "I4 states": other_states,
    "I1 ends": _ended_at_all,
    "replay": differences,
}
