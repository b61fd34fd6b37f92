"""From a seed to a verdict."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.faults import Faults
from tests.simulation.flaky import flaky
from tests.simulation.invariants import Violation, check, check_routed
from tests.simulation.loop import StuckError
from tests.simulation.people import People
from tests.simulation.pinned import pinned
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World

FAULTS_S = 45.0  # how long things go wrong, in virtual seconds
REST_S = 240.0  # how long healing may take
LONG_AFTER_S = (26 * 3_600.0, 9 * 86_400.0, 9 * 86_400.0)  # approvals have expired; triggers are forgotten
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

    def __str__(self) -> str:
        rules = "".join(f"\n    {violation}" for violation in self.violations)
        again = f"python -m tests.simulation --seed {self.seed} --scenario {self.scenario} --trace"
        return f"seed {self.seed}, scenario {self.scenario!r}:{rules or ' nothing is broken'}\n    again: {again}"


def scenario_of(seed: int) -> str:
    """Return the scenario that a seed plays."""
    return [*SCENARIOS][seed % len(SCENARIOS)]


def simulate(
    seed: int, scenario: str | None = None, *, mutant: Mutant | None = None, trace: Callable[[str], None] | None = None
) -> Outcome:
    """Play one seed, and check what is left of it."""
    name = scenario or scenario_of(seed)
    world = World(f"{name}/{seed}", SCENARIOS[name], trace)
    with pinned(random.Random(f"{world.name}/ids"), world.now_ms, world.scenario.image_events, quiet=trace is None):
        with flaky(world), mutant(world) if mutant is not None else nullcontext():
            people = People(world, FAULTS_S)
            stuck = _run(world, _live(world, people))
        violations = check(world, stuck) if stuck is not None else check_routed(world)
        if not violations:
            with flaky(world), mutant(world) if mutant is not None else nullcontext():
                stuck = _run(world, _long_after(world, people))
            violations = check(world, stuck)
        digest, facts = world.digest(), world.facts()
        world.loop.dispose()
    return Outcome(seed, name, tuple(violations), digest, facts)


def _run(world: World, part: Coroutine[Any, Any, str | None]) -> str | None:
    try:
        return world.loop.run(part)
    except StuckError as error:
        return str(error)


async def _live(world: World, people: People) -> str | None:
    """Let the world live; return what was still under way when it should have come to rest."""
    await world.found()
    faults = Faults(world, people)
    for slot in world.slots:
        world.start(slot)
    people.begin()
    await faults.strike(FAULTS_S)
    if (left := FAULTS_S - world.loop.time()) > 0:
        await asyncio.sleep(left)
    faults.heal()
    busy = await _rest(world, people)
    return None if busy is None else f"after the faults: {busy}"


async def _long_after(world: World, people: People) -> str | None:
    """Let much time pass; return what was still under way when the world should have come to rest again."""
    world.loop.leap(world.rng.choice(LONG_AFTER_S))
    people.long_after()
    busy = await _rest(world, people)
    return None if busy is None else f"long after: {busy}"


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
    if (run := people.under_way(world.observer.look().values())) is not None:
        return f"the run {run.id} is {run.status} since {run.started_at_ms}"
    return None
