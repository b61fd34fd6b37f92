"""Kills a real system again and again, heals it, and checks what must hold.

    python -m tests.chaos --kills 200 --seed 1
    python -m tests.chaos --seed 1 --block 3         # one block again, as a violation says

A block has a site of its own, some twenty kills of workers at named points, and one other fault; then the system
comes to rest and everything is checked. What a block does follows from the seed and its number; when the machine
does it does not, so a repetition may need several attempts.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.chaos.faults import FAULTS, Cycle, kills
from tests.chaos.lost_logs import LOST
from tests.chaos.points import POINTS
from tests.chaos.rig import Rig, open_rig

KILLS_A_BLOCK = 20
BLOCKS = "all blocks, healed and checked"
TRIES = 3  # so many cycles in vain, and a point counts as out of reach
SHOWN = 10  # violations of one block that are printed


@dataclass(frozen=True, slots=True)
class Block:
    """What is done before the system may rest: kills, so many abreast, and one other fault."""

    number: int
    cycles: tuple[Cycle, ...]
    abreast: int
    fault: str
    seed: int

    @classmethod
    def draw(cls, seed: int, number: int) -> "Block":
        """The block of this number: the points in turn, so that ten blocks have each of them several times."""
        rng = random.Random(f"{seed}/{number}")
        names, faults = list(POINTS), list(FAULTS)
        first = number * KILLS_A_BLOCK
        points = [names[(first + position) % len(names)] for position in range(KILLS_A_BLOCK)]
        rng.shuffle(points)
        cycles = tuple(Cycle.draw(point, rng) for point in points)
        return cls(number, cycles, 1 + number % 2, faults[number % len(faults)], rng.randrange(2**32))


@dataclass(slots=True)
class Score:
    """How often each thing was done, how long it took, and what did not hold."""

    times: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    elsewhere: Counter[str] = field(default_factory=Counter)  # killed, but not at their point

    def table(self) -> Table:
        table = Table(title="chaos", title_justify="left", box=None, pad_edge=False)
        for column in ("fault", "times", "seconds", "violations"):
            table.add_column(column, justify="left" if column == "fault" else "right")
        for name in sorted(self.times, key=lambda name: (name not in POINTS, name)):
            shown = f"worker killed: {name}" if name in POINTS else name
            shown += f" ({self.elsewhere[name]} elsewhere)" if self.elsewhere[name] else ""
            seconds = f"{self.seconds[name]:.0f}" if name in self.seconds else ""
            table.add_row(shown, str(self.times[name]), seconds, str(self.violations[name]))
        return table

    def unreached(self) -> list[str]:
        """Points at which nobody ever died, though it was tried several times: the function is another one by now."""
        return [name for name in POINTS if self.elsewhere[name] == self.times[name] >= TRIES]

    @property
    def killed(self) -> int:
        """How many workers were killed by cycles."""
        return sum(times for name, times in self.times.items() if name in POINTS)


@dataclass(slots=True)
class Run:
    """One call of the program."""

    seed: int
    rig: Rig
    score: Score
    console: Console
    progress: Progress
    bar: TaskID

    async def block(self, block: Block, *, last: bool) -> bool:
        """Do a block, and check it; whether all holds."""
        begun = time.monotonic()
        bed = await self.rig.make_bed()
        await self.rig.end_all()

        def done(cycle: Cycle, at_its_point: bool) -> None:
            self.score.times[cycle.point] += 1
            self.score.elsewhere[cycle.point] += not at_its_point
            self.progress.advance(self.bar)

        problems: list[str] = []
        try:
            await kills(self.rig, bed, block.cycles, abreast=block.abreast, done=done)
            faulted = time.monotonic()
            strikes = await FAULTS[block.fault](self.rig, bed, random.Random(block.seed))
            self.score.times[block.fault] += strikes
            self.score.seconds[block.fault] += time.monotonic() - faulted
        except AssertionError as error:
            problems.append(str(error))
        try:
            await self.rig.until_quiet(bed)
        except AssertionError as error:
            problems.append(str(error))
        problems += await self.rig.violations(bed, from_the_beginning=last)
        self.score.seconds[BLOCKS] += time.monotonic() - begun
        self.score.times[BLOCKS] += 1
        self.score.violations[BLOCKS] += len(problems)
        self._tell(block, problems)
        return not problems

    def _tell(self, block: Block, problems: list[str]) -> None:
        if not problems:
            return
        said = ", ".join(map(str, block.cycles))
        self.console.print(
            f"block {block.number} ({said}; {block.abreast} abreast; then: {block.fault}):", soft_wrap=True
        )
        for problem in problems[:SHOWN]:
            self.console.print(f"  {problem}", soft_wrap=True, markup=False)
        if len(problems) > SHOWN:
            self.console.print(f"  and {len(problems) - SHOWN} more")
        self.console.print(f"repeat it: python -m tests.chaos --seed {self.seed} --block {block.number}")


def blocks(seed: int, count: int, only: int | None) -> list[Block]:
    """The blocks of a seed with `count` kills in all, or the one of number `only`."""
    numbers = range(-(-count // KILLS_A_BLOCK)) if only is None else [only]
    return [Block.draw(seed, number) for number in numbers]


async def attack(given: argparse.Namespace, home: Path, console: Console) -> bool:
    """Do all blocks, then what takes a log away; whether all holds."""
    score, ok = Score(), True
    ends = time.monotonic() + given.minutes * 60
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("kills", total=KILLS_A_BLOCK if given.block is not None else given.kills)
        async with open_rig(home / "rig") as rig:
            run = Run(given.seed, rig, score, console, progress, bar)
            todo = blocks(given.seed, given.kills, given.block)
            for block in todo:
                if time.monotonic() > ends:
                    console.print(f"stopped before block {block.number}: {given.minutes} minutes are over")
                    break
                ok &= await run.block(block, last=block is todo[-1])
        for name, lose in LOST.items() if given.block is None else ():
            begun = time.monotonic()
            problems = await lose(home / name.replace(" ", "-"))
            score.times[name] += 1
            score.seconds[name] += time.monotonic() - begun
            score.violations[name] += len(problems)
            ok &= not problems
            for problem in problems:
                console.print(f"{name}: {problem}", soft_wrap=True, markup=False)
    for name in score.unreached():
        console.print(f"no worker came to the point {name!r}: does tests/chaos/points.py still fit the code?")
        ok = False
    console.print(score.table())
    console.print(
        f"{score.killed} kills of workers, {score.elsewhere.total()} of them not at their point; "
        + ("all holds" if ok else f"VIOLATIONS; logs and notes are in {home}")
    )
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill a real system, and check it.")
    parser.add_argument("--kills", type=int, default=200, help="of workers, at named points (default: 200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60, help="begin no further block after so long")
    parser.add_argument("--block", type=int, help="only the block of this number")
    given = parser.parse_args()
    for noisy in ("aiokafka", "asyncpg", "asyncio", "streams"):  # that connections break is what this is about
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    home = Path(tempfile.mkdtemp(prefix="dramac-chaos-"))
    console = Console(highlight=False)
    ok = asyncio.run(attack(given, home, console))
    if ok:
        shutil.rmtree(home)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
