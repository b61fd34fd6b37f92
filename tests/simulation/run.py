"""From a seed to a verdict."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from tests.simulation.faults import Faults
from tests.simulation.flaky import flaky
from tests.simulation.invariants import Violation, check
from tests.simulation.loop import StuckError
from tests.simulation.people import People
from tests.simulation.pinned import pinned
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World

FAULTS_S = 45.0  # how long things go wrong, in virtual seconds
REST_S = 240.0  # how long healing may take
LONG_AFTER_S = (26 * 3_600.0, 9 * 86_400.0)  # approvals have expired; triggers are forgotten
QUIET_LOOKS = 4  # so often in a row nothing may be under way

Mutant = Callable[[World], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed. `digest` is over every record of every topic."""

    seed: int
    scenario: str
    violations: tuple[Violation, ...]
    digest: str
    facts: dict[str, int] = field(default_factory=dict)


def scenario_of(seed: int) -> str:
    """Return the scenario that a seed plays."""
    return [*SCENARIOS][seed % len(SCENARIOS)]


def simulate(
    seed: int, scenario: str | None = None, *, mutant: Mutant | None = None, trace: Callable[[str], None] | None = None
) -> Outcome:
    """Play one seed, and check what is left of it."""
    name = scenario or scenario_of(seed)
    world = World(f"{name}/{seed}", SCENARIOS[name], trace)
    with pinned(random.Random(f"{world.name}/ids"), world.now_ms, quiet=trace is None):
        with flaky(world), mutant(world) if mutant is not None else nullcontext():
            try:
                stuck = world.loop.run(_play(world))
            except StuckError as error:
                stuck = str(error)
        violations = check(world, stuck)
        digest, facts = world.digest(), world.facts()
        world.loop.dispose()
    return Outcome(seed, name, tuple(violations), digest, facts)


async def _play(world: World) -> str | None:
    """Let the world live; return what was still under way when it should have come to rest."""
    await world.found()
    people, faults = People(world, FAULTS_S), Faults(world)
    for slot in world.slots:
        world.start(slot)
    people.begin()
    await faults.strike(FAULTS_S)
    if (left := FAULTS_S - world.loop.time()) > 0:
        await asyncio.sleep(left)
    faults.heal()
    if (busy := await _rest(world, people)) is not None:
        return f"after the faults: {busy}"
    for after_s in LONG_AFTER_S:
        world.loop.leap(after_s)
        people.long_after()
        if (busy := await _rest(world, people)) is not None:
            return f"long after: {busy}"
    return None


async def _rest(world: World, people: People) -> str | None:
    until_s, quiet, busy = world.loop.time() + REST_S, 0, None
    while quiet < QUIET_LOOKS:
        await asyncio.sleep(0.8)
        if world.loop.time() > until_s:
            return busy or "something comes and goes"
        busy = _under_way(world, people)
        quiet = 0 if busy else quiet + 1
    return None


def _under_way(world: World, people: People) -> str | None:
    if not people.idle():
        return "people still speak"
    if (busy := world.busy()) is not None:
        return busy
    for stream in world.observer.look().values():
        for run in stream.runs.values():
            waits = any(call.status == "approval" and people.never(call) for call in run.calls.values())
            if run.unsettled or not (run.ended or waits):
                return f"the run {run.id} is {run.status} since {run.started_at_ms}"
    return None
