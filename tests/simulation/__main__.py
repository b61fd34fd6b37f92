"""python -m tests.simulation: play many seeds, or one of them step by step."""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial

from rich.console import Console
from rich.progress import Progress

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import Outcome, simulate
from tests.simulation.scenarios import SCENARIOS

CHUNK = 4  # seeds that a process is given at a time
SHOWN = 10  # failing seeds that are shown in full


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 1 if a rule was broken."""
    asked = _parser().parse_args(argv)
    mutant = MUTANTS[asked.mutant] if asked.mutant else None
    if asked.seed is not None:
        outcome = simulate(asked.seed, asked.scenario, mutant=mutant, trace=print if asked.trace else None)
        _tell([outcome], Console())
        return 1 if outcome.violations else 0
    play = partial(simulate, scenario=asked.scenario, mutant=mutant)
    seeds = range(asked.first, asked.first + asked.seeds)
    begun_s = time.monotonic()
    with Progress(console=Console(stderr=True)) as progress, multiprocessing.Pool(asked.jobs) as pool:
        done = pool.imap_unordered(play, seeds, CHUNK)
        outcomes = list(progress.track(done, total=len(seeds), description="seeds"))
    seconds = time.monotonic() - begun_s
    broken = _tell(outcomes, Console())
    played = Counter(outcome.scenario for outcome in outcomes)
    facts: Counter[str] = Counter()
    for outcome in outcomes:
        facts.update(outcome.facts)
    print(f"{len(seeds)} seeds, {broken} broken, {seconds:.0f} s, {len(seeds) / seconds:.1f} seeds/s")
    print("scenarios: " + ", ".join(f"{name} {count}" for name, count in sorted(played.items())))
    print("in all: " + ", ".join(f"{name} {count:,}" for name, count in facts.items()))
    return 1 if broken else 0


def _tell(outcomes: Iterable[Outcome], console: Console) -> int:
    """Print what was broken, and how to see it again; return how many seeds broke a rule."""
    broken = sorted((o for o in outcomes if o.violations), key=lambda outcome: outcome.seed)
    for outcome in broken[:SHOWN]:
        console.print(f"[red]✗[/red] {outcome}", highlight=False, soft_wrap=True)
    if len(broken) > SHOWN:
        console.print(f"and {len(broken) - SHOWN} more: {[outcome.seed for outcome in broken[SHOWN:]]}")
    return len(broken)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=2, help="processes to play them in")
    parser.add_argument("--scenario", choices=SCENARIOS, help="instead of each seed's own")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every step")
    parser.add_argument("--mutant", choices=MUTANTS, help="with a deliberate bug")
    return parser


if __name__ == "__main__":
    sys.exit(main())
