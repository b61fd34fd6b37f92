"""Deliberate bugs, one in each mechanism. The simulation must find every one: what finds none proves nothing."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from processors import telling
from processors.agents import decider as agent_decider
from processors.executions import decider as run_decider
from processors.executions import delegation, endings, thinking
from processors.runtime import awaiting, decision, partition, reading, stream
from processors.runtime.effects import Effects
from processors.runtime.ledger import Ledger
from processors.runtime.partition import Partition
from processors.runtime.process import Process
from processors.triggers import router
from schemas.commands import ExpireApproval, TimeOutExecution
from schemas.events import DelegationReported
from schemas.ids import random_id
from schemas.module_events import DAY_MS
from streams.chain import Head, stamp
from tests.simulation.loop import HOST
from tests.simulation.world import World

Patches = Iterator[AbstractContextManager[Any]]
Bug = Callable[[], Patches]


@dataclass(frozen=True)
class Mutant:
    """A bug. It is to be found in `scenario`, soon from the seed `first` on, by breaking one of `rules`."""

    name: str
    patches: Bug
    scenario: str
    first: int
    rules: tuple[str, ...]

    @contextmanager
    def __call__(self, world: World) -> Iterator[None]:
        """Put the bug in for as long as a world lives."""
        with ExitStack() as stack:
            for patched in self.patches():
                stack.enter_context(patched)
            yield


MUTANTS: dict[str, Mutant] = {}


def mutant(scenario: str, *, first: int, rules: tuple[str, ...]) -> Callable[[Bug], Bug]:
    """Register a bug under its function's name."""

    def register(patches: Bug) -> Bug:
        MUTANTS[patches.__name__] = Mutant(patches.__name__, patches, scenario, first, rules)
        return patches

    return register


# --- the log --------------------------------------------------------------------------------------------------------


@mutant("flaky", first=2, rules=("I4", "I12", "I1", "replay", "I7"))
def no_look_at_the_offset_after_an_append() -> Patches:
    follow = Partition._follow

    async def only_when_idle(self: Partition, end: int, heads: Any, own: set[Any], batch: Any) -> None:
        if not own:
            await follow(self, end, heads, own, batch)

    yield patch.object(Partition, "_follow", only_when_idle)


@mutant("calm", first=0, rules=("I4", "I12", "I1", "I7"))
def what_counts_is_the_sequence_alone() -> Patches:
    def judge(head: Head, record: Any) -> Any:
        claimed = stamp(record.headers)
        if claimed is None or claimed[0] != head.sequence + 1:
            return "behind", head
        return "counts", Head(*claimed)

    yield patch.object(partition, "judge", judge)
    yield patch.object(reading, "judge", judge)


@mutant("flaky", first=13, rules=("I1", "I12", "I6", "replay"))
def commands_are_skipped_by_the_last_cause_of_all_streams() -> Patches:
    asked = reading.asked

    def skip_by_all(streams: Any, record: Any) -> Any:
        found = asked(streams, record)
        return None if found and record.offset <= max(s.cause for s in streams.values()) else found

    yield patch.object(partition, "asked", skip_by_all)


@mutant("zombie", first=0, rules=("replay",))
def events_carry_their_owners_name() -> Patches:
    decision_of = decision.decision_of

    def traced(stream_: Any, envelope: Any, **more: Any) -> Any:
        return decision_of(stream_, envelope._replace(traceparent=HOST.get().name), **more)

    yield patch.object(partition, "decision_of", traced)


@mutant("clock", first=0, rules=("I3", "replay", "I11", "I8"))
def time_goes_back_with_the_brokers_clock() -> Patches:
    yield patch.object(decision, "time_of", lambda stream_, envelope: envelope.at_ms)


@mutant("images", first=1, rules=("I4", "I12", "I1", "replay"))
def an_image_is_taken_before_its_append_is_acknowledged() -> Patches:
    append, if_due = Partition._append, Partition._checkpoint_if_due

    async def image_then_append(self: Partition, batch: Any) -> None:
        if_due(self)
        await append(self, batch)

    yield patch.object(Partition, "_append", image_then_append)
    yield patch.object(Partition, "_checkpoint_if_due", lambda self: None)


# --- triggers -------------------------------------------------------------------------------------------------------


@mutant("storm", first=0, rules=("I1",))
def a_triggers_id_is_forgotten() -> Patches:
    remember = Ledger.remember

    def not_for_long(self: Ledger, print_: int, until_ms: int, at_ms: int) -> None:
        if until_ms - at_ms < 2 * DAY_MS:
            remember(self, print_, until_ms, at_ms)

    yield patch.object(Ledger, "remember", not_for_long)


@mutant("crash", first=0, rules=("I1 events",))
def module_events_are_done_before_their_commands_are_acknowledged() -> Patches:
    send = telling.send_until_acknowledged

    async def send_soon(*args: Any) -> None:
        await asyncio.sleep(0.05)
        await send(*args)

    async def send_some_time(*args: Any) -> None:
        asyncio.get_running_loop().create_task(send_soon(*args))

    yield patch.object(router, "send_until_acknowledged", send_some_time)


# --- effects --------------------------------------------------------------------------------------------------------


@mutant("crash", first=0, rules=("I7",))
def effects_start_before_the_owner_has_caught_up() -> Patches:
    restore = Partition._restore

    async def at_once(self: Partition) -> None:
        await restore(self)
        self._caught_up = True
        self._start_all()

    yield patch.object(Partition, "_restore", at_once)


@mutant("crash", first=0, rules=("I7 requested",))
def effects_start_before_their_request_is_acknowledged() -> Patches:
    append = Partition._append

    async def start_then_append(self: Partition, batch: Any) -> None:
        self._start(batch)
        await append(self, batch)

    yield patch.object(Partition, "_append", start_then_append)


@mutant("crash", first=11, rules=("I7 requested",))
def a_runner_is_named_by_its_machine() -> Patches:
    init = Process.__init__

    def named_by_machine(self: Process, *args: Any, **more: Any) -> None:
        init(self, *args, **more)
        self.runner = more["log"].host.name.split(".")[0]

    yield patch.object(Process, "__init__", named_by_machine)


@mutant("zombie", first=0, rules=("I7 requested",))
def a_process_forgets_what_it_began() -> Patches:
    drop = Effects.drop

    def drop_all(self: Effects) -> None:
        drop(self)
        self._process.begun.clear()

    yield patch.object(Effects, "drop", drop_all)


@mutant("calm", first=2, rules=("I12", "I1 ends"))
def timers_fire_once() -> Patches:
    async def ring_once(self: Any, run: Any, timer: Any) -> None:
        await self._until_held()
        if timer.kind == "timeout":
            await self._tell(run, TimeOutExecution(execution_id=run.id))
        else:
            await self._tell(run, ExpireApproval(execution_id=run.id, approval_id=timer.approval_id))

    yield patch.object(Effects, "_ring", ring_once)


@mutant("zombie", first=0, rules=("I7 settled",))
def a_run_ends_without_putting_its_calls_in_doubt() -> Patches:
    yield patch.object(endings, "_doubts", lambda run: [])


@mutant("zombie", first=0, rules=("I6 once",))
def a_reply_is_paid_for_whenever_it_comes() -> Patches:
    yield patch.object(stream, "_was_handled", lambda agent, reply, at_ms: False)


# --- delegation and schedules ---------------------------------------------------------------------------------------


@mutant("crash", first=4, rules=("I7 one child",))
def a_start_of_a_child_is_named_anew_each_time() -> Patches:
    trigger_of = delegation.trigger_of

    def named_anew(run: Any, call: Any) -> Any:
        return trigger_of(run, call).model_copy(update={"id": random_id()})

    yield patch.object(delegation, "trigger_of", named_anew)


@mutant("crash", first=0, rules=("I7 told once", "I12"))
def that_an_end_was_told_is_forgotten() -> Patches:
    evolve = run_decider._evolve_delegation

    def forget(run: Any, event: Any, at_ms: int) -> None:
        if not isinstance(event, DelegationReported):
            evolve(run, event, at_ms)

    yield patch.object(run_decider, "_evolve_delegation", forget)


@mutant("calm", first=3, rules=("I7 finished", "I7 cancelled", "I12"))
def who_ends_leaves_its_children_to_themselves() -> Patches:
    after_the_end = awaiting._awaiting_after_the_end

    def nobody_is_cancelled(run: Any) -> Any:
        return tuple(effect for effect in after_the_end(run) if effect.effect != "cancel")

    yield patch.object(awaiting, "_awaiting_after_the_end", nobody_is_cancelled)


@mutant("crash", first=0, rules=("I7 forced",))
def what_rules_force_is_left_to_the_model() -> Patches:
    yield patch.object(thinking, "forced_calls", lambda *args: ())


@mutant("zombie", first=0, rules=("I1 slots", "I1 counted"))
def a_schedule_goes_on_from_wherever_its_timer_stood() -> Patches:
    yield patch.object(agent_decider, "accepts", lambda agent, command, at_ms: command.schedule in agent.schedules)
