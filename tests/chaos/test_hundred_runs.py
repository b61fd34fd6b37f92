"""A hundred runs, and the worker killed three times in their midst."""

from collections import Counter

import pytest

from schemas.events import ExecutionCompleted, StepThought
from tests.acceptance.system import until
from tests.chaos.rig import Rig

RUNS = 100
STEPS = 4
KILLS = 3


@pytest.mark.slow
async def test_a_hundred_runs_complete_though_the_worker_is_killed_three_times(rig: Rig) -> None:
    bed = await rig.make_bed(model="unhurried")
    await bed.publish(rig.system.log, RUNS)

    def seen(kind: type[StepThought] | type[ExecutionCompleted]) -> int:
        agents = set(bed.busy.values())
        return sum(isinstance(e.event, kind) and e.agent_id in agents for e in rig.tape.events)

    for number in range(1, KILLS + 1):
        due = RUNS * STEPS * number // (KILLS + 1)

        async def is_due(due: int = due) -> bool:
            await rig.tape.read_on()
            return seen(StepThought) >= due

        rig.keep(1)
        await until(is_due, f"{due} thoughts")
        assert seen(ExecutionCompleted) < RUNS, "the worker is killed while runs are under way"
        await rig.end_all()
    await rig.until_quiet(bed)
    assert seen(ExecutionCompleted) == RUNS
    assert seen(StepThought) == RUNS * STEPS
    assert Counter(map(len, bed.published.values())) == {33: 2, 34: 1}
    assert await rig.violations(bed) == []  # such as a step twice, or a call again whose result was told
