"""The tests of the tests: a deliberate bug in each mechanism is found, and found by the rule that it breaks."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import Outcome, simulate

SEEDS = 40  # within so many a bug must be found; where to begin is noted with each


def search(mutant: Mutant) -> Outcome | None:
    """Return the first seed that breaks one of the mutant's rules."""
    for seed in range(mutant.first, mutant.first + SEEDS):
        outcome = simulate(seed, mutant.scenario, mutant=mutant)
        if any(violation.rule.startswith(mutant.rules) for violation in outcome.violations):
            return outcome
    return None


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_deliberate_bug_is_found(mutant: Mutant) -> None:
    outcome = search(mutant)
    assert outcome is not None, f"{SEEDS} seeds of {mutant.scenario!r} did not find it: the simulation is too mild"
    assert simulate(outcome.seed, mutant.scenario).violations == (), "the seed is broken without the bug, too"
