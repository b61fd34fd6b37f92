"""The whole loop under faults, in virtual time: `python -m tests.simulation` plays as many seeds as you like."""

from collections import Counter

import pytest

from tests.simulation.__main__ import main
from tests.simulation.run import simulate
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import SLOTS

SEEDS = 40
EACH = 5  # of the seeds, so many of a scenario


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_guarantee_holds_whatever_goes_wrong(seed: int) -> None:
    outcome = simulate(seed)
    assert not outcome.violations, f"\n{outcome}"


def test_the_seeds_play_every_scenario() -> None:
    assert len(SCENARIOS) * EACH == SEEDS


@pytest.mark.parametrize("scenario", ["calm", "storm", "all"])
def test_a_seed_is_one_run_byte_for_byte(scenario: str) -> None:
    first, second = simulate(1, scenario), simulate(1, scenario, trace=lambda line: None)
    assert first.digest == second.digest
    assert first.facts == second.facts
    assert simulate(2, scenario).digest != first.digest


def test_what_is_to_go_wrong_goes_wrong() -> None:
    facts: Counter[str] = Counter()
    for scenario in ("crash", "zombie", "flaky"):
        facts.update(simulate(3, scenario).facts)
    assert facts["processes"] > 3 * SLOTS  # some were started again
    assert facts["ignored"] > 0  # two owners at once wrote the same
    assert facts["doubts"] > 0
    assert facts["approvals"] > 0


def test_the_command_tells_how_to_play_a_failing_seed_again(capsys: pytest.CaptureFixture[str]) -> None:
    bug = ["--scenario", "crash", "--mutant", "effects_start_before_their_request_is_acknowledged"]
    assert main(["--seed", "0", *bug]) == 1
    told = capsys.readouterr().out
    assert "I7 requested" in told
    assert "python -m tests.simulation --seed 0 --scenario crash --trace" in told


def test_the_command_plays_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--jobs", "1", "--scenario", "calm"]) == 0
    assert "2 seeds, 0 broken" in capsys.readouterr().out
