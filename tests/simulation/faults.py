"""What goes wrong in a world, when, and how it is mended."""

import asyncio
import random
from collections.abc import Callable

from streams.log import Draft, Record
from streams.topics import CHECKPOINTS, COMMANDS, EVENTS, MODULE_EVENTS
from tests.simulation.loop import OUTSIDE, Host
from tests.simulation.people import SITE, People
from tests.simulation.world import Slot, World

EVERY_S = 2.5  # the mean time between two faults
STEPS_TO_DEATH = 400  # a process is killed within so many steps of its own
DEATH_AT_LANDING = 0.5  # of the crashes: just when something of that process lands, and before it hears of it
AN_OWNER = 0.7  # of what strikes a process: one that owns something
HOUR_S = 3_600.0
JUMPS_MS = (*[0] * 4, *[-30_000] * 5, *[-5_000] * 2, *[5_000] * 2, *[30_000] * 2, 3_600_000)


class Faults:
    """Strikes a world by its scenario's weights."""

    def __init__(self, world: World, people: People) -> None:
        """Strike nothing yet."""
        self._world = world
        self._people = people
        self._rng: random.Random = random.Random(f"{world.name}/faults")
        self._doomed: set[tuple[Host, str]] = set()
        world.on_landed = world.coordinator.on_commit = self._landed

    async def strike(self, until_s: float) -> None:
        """Let things go wrong until a time (the loop's)."""
        weights = self._world.scenario.weights()
        if not weights:
            return
        strikes = {name: getattr(self, f"_{name}") for name in weights}
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / EVERY_S))
            if self._world.loop.time() >= until_s:
                return
            (name,) = self._rng.choices([*weights], [*weights.values()])
            await strikes[name]()

    def heal(self) -> None:
        """Let nothing go wrong any more, and start what is down."""
        world = self._world
        self._doomed.clear()
        world.troubled, world.healing = False, True
        world.network.weather = type(world.network.weather)()
        world.network.cut_off.clear()
        world.coordinator.deaf.clear()
        world.jump_ms = 0
        # A stream's time never goes back: where the broker's clock was ahead, let the true time get there too.
        ahead_ms = max((stream.at_ms for stream in world.observer.look().values()), default=0) - world.now_ms()
        world.loop.leap(max(0, ahead_ms) / 1000)
        for slot in world.slots:
            if slot.host is not None:
                slot.host.fuse = 0
                world.loop.thaw(slot.host)
            else:
                world.start(slot)
        world.say(OUTSIDE, "--- the faults are over")

    # --- processes --------------------------------------------------------------------------------------------------

    def _pick(self) -> Slot:
        owners = {host for group in self._world.coordinator.groups.values() for host in group.owners.values()}
        owning = [slot for slot in self._world.slots if slot.host in owners]
        return self._rng.choice(owning if owning and self._rng.random() < AN_OWNER else self._world.slots)

    def _later(self, seconds: float, what: Callable[[], object]) -> None:
        self._world.loop.call_later(seconds, what, context=OUTSIDE.context())

    async def _crash(self) -> None:
        slot = self._pick()
        if slot.host is None or slot.host.state != "up":
            return
        host = slot.host
        if self._rng.random() < DEATH_AT_LANDING:
            self._doomed.add((host, self._rng.choice((EVENTS, COMMANDS, CHECKPOINTS, "commit", "commit"))))
            return

        def die() -> None:
            if slot.host is host:
                self._kill(slot)

        host.blow, host.fuse = die, self._rng.randint(1, STEPS_TO_DEATH)

    def _landed(self, host: Host, where: str) -> None:
        if (host, where) in self._doomed:
            self._doomed.discard((host, where))
            for slot in self._world.slots:
                if slot.host is host:
                    self._kill(slot)

    def _kill(self, slot: Slot) -> None:
        self._world.kill(slot)
        self._later(self._rng.choice((0.01, 1.0, 6.0)), lambda: self._world.start(slot))

    async def _stop(self) -> None:
        slot = self._pick()
        self._world.stop(slot)
        for after_s in (1.0, 5.0, 12.0):
            self._later(after_s, lambda: self._world.start(slot))

    async def _freeze(self) -> None:
        slot = self._pick()
        if (host := slot.host) is None:
            return
        self._world.say(host, "is frozen")
        self._world.loop.freeze(host)
        self._later(self._rng.choice((0.5, 4.0, 8.0, 15.0)), lambda: self._thaw(host))

    def _thaw(self, host: Host) -> None:
        self._world.say(host, "goes on")
        self._world.loop.thaw(host)

    async def _deaf(self) -> None:
        if (host := self._pick().host) is not None:
            self._world.say(host, "is deaf")
            self._world.coordinator.deaf[host] = self._world.loop.time() + self._rng.choice((6.0, 12.0, 25.0))

    async def _cut(self) -> None:
        if (host := self._pick().host) is not None:
            self._world.say(host, "is cut off")
            self._world.network.cut_off.add(host)
            self._later(self._rng.choice((1.0, 5.0, 12.0)), lambda: self._world.network.cut_off.discard(host))

    async def _storm(self) -> None:
        self._world.say(OUTSIDE, "a storm of rebalances")
        for _ in range(self._rng.randint(2, 5)):
            for group in self._world.coordinator.groups.values():
                group.rebalance()
            await asyncio.sleep(self._rng.uniform(0.2, 2.0))

    # --- time -------------------------------------------------------------------------------------------------------

    async def _clock(self) -> None:
        self._world.jump_ms = self._rng.choice(JUMPS_MS)
        self._world.say(OUTSIDE, f"the broker's clock is {self._world.jump_ms} ms off")

    async def _sleep(self) -> None:
        self._world.say(OUTSIDE, "all machines sleep for an hour")
        self._world.loop.leap(HOUR_S)

    async def _crowd(self) -> None:
        self._people.crowd()

    # --- records ----------------------------------------------------------------------------------------------------

    async def _compact(self) -> None:
        """Images are a cache: old ones are compacted away, and sometimes all are gone."""
        broker = self._world.broker
        broker.compact(CHECKPOINTS)
        if self._rng.random() < 0.3:
            for partition in range(self._world.scenario.partitions):
                end = self._world.end(CHECKPOINTS, partition)
                broker.truncate(CHECKPOINTS, partition, end - self._rng.choice((0, 0, 1, 3)) if end > 3 else 0)

    async def _gap(self) -> None:
        """Offsets without records, as transactions leave them."""
        topic, partition = (
            self._rng.choice((COMMANDS, EVENTS, CHECKPOINTS)),
            self._rng.randrange(self._world.scenario.partitions),
        )
        self._world.broker.skip(topic, partition, self._rng.choice((1, 1, 7)))
        self._world.say(OUTSIDE, f"a gap in {topic}/{partition}")

    async def _poison(self) -> None:
        topic = self._rng.choice((COMMANDS, COMMANDS, MODULE_EVENTS, EVENTS, EVENTS, CHECKPOINTS))
        partition = self._rng.randrange(self._world.scenario.partitions)
        draft = self._noise(topic, partition)
        if draft is None:
            return
        base = await self._world.broker.append(topic, partition, [draft])
        self._world.say(OUTSIDE, f"poison in {topic}/{partition}/{base}")
        if topic in (COMMANDS, MODULE_EVENTS):
            self._world.poison.append((topic, partition, base))

    def _noise(self, topic: str, partition: int) -> Draft | None:
        """Return what nobody can read; in `ai.events`, a copy of what stands there, as it is or forged."""
        there = self._world.broker.records(topic, partition)[1:]
        if topic == EVENTS:
            if not there:
                return Draft(b"nobody", b"\xff", ())
            record = self._rng.choice(there[-30:])
            if self._rng.random() < 0.5 and (stream := self._world.observer.look().get(record.key or b"")) is not None:
                return _next(record, stream.head.sequence)
            forged = record.value if self._rng.random() < 0.4 else (record.value or b"").replace(b"1", b"2")
            return Draft(record.key, forged, record.headers)
        if topic == CHECKPOINTS:
            return Draft(
                b"end/%d" % self._rng.randrange(99), self._rng.choice((b"{}", b"\x00", b'{"state_version":1}'))
            )
        key = self._rng.choice((None, b"nobody", next(iter(self._world.observer.streams), b"x")))
        typed = (("ce_type", b"ai.execution.start"), ("ce_id", b"x"), ("ce_siteid", SITE.encode()))
        return self._rng.choice(
            (
                Draft(key, b"\xff\xfe", ()),
                Draft(key, b'{"trigger":{"id":"\\u0000\\ud800"}}', typed),
                Draft(key, b"[" * 500, typed),
                Draft(key, None, typed),
                Draft(key, b"{}", (("ce_type", b"ai.of.the.future"), *typed[1:])),
            )
        )


def _next(record: Record, sequence: int) -> Draft:
    """Return a forged record that has its stream's next sequence, and the chain of another."""
    headers = dict(record.headers) | {"ce_sequence": b"%d" % (sequence + 1)}
    return Draft(record.key, record.value, tuple(headers.items()))
