"""A few kills at the points that matter most; `python -m tests.chaos` does hundreds, and other faults."""

from tests.chaos.faults import Cycle, kills
from tests.chaos.points import ALL, POINTS
from tests.chaos.rig import Rig

CYCLES = (
    Cycle("during-append", 3),
    Cycle("after-append", 6),
    Cycle("tool-committed", 3),
    Cycle("after-once", 1),
    Cycle("router-sent", 1),
    Cycle("rows-written", 3),
)


def test_each_point_names_a_function_that_exists() -> None:
    assert len(POINTS) == len(ALL)
    assert [point.name for point in ALL if not callable(getattr(point.owner, point.method, None))] == []
    assert all(0 < point.least <= point.often for point in ALL)


async def test_a_worker_may_die_anywhere_and_nothing_is_lost_or_done_twice(rig: Rig) -> None:
    bed = await rig.make_bed()
    await rig.end_all()
    missed: list[Cycle] = []
    await kills(
        rig, bed, CYCLES, abreast=1, point_s=60, done=lambda cycle, there: None if there else missed.append(cycle)
    )
    assert missed == [], "not killed at their points"
    await rig.until_quiet(bed)
    assert await rig.violations(bed) == []
