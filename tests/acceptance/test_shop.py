"""Recorded work in a shop, through Kafka and a person's consent; a worker dies as soon as it changed something."""

import random

import pytest

from tests.acceptance.system import System
from tests.shared_data import needs
from tests.taubench.rig import Rig
from tests.taubench.shop import FOLDER
from tests.taubench.tasks import load_tasks


@needs(FOLDER)
@pytest.mark.slow
async def test_what_a_killed_worker_had_just_done_is_done_once(system: System) -> None:
    tasks = [task for task in load_tasks("test") if 2 <= len(task.actions) <= 6 and task.writes][:2]
    rig = Rig(system, tasks, kills=1, rng=random.Random(1), shares=(1.0, 0.0))
    faults, counters, facts = await rig.run(40, randomly=False)
    assert faults == []
    assert (facts["killed_unheard"], facts["repeated"]) == (1, counters.repeated)
    assert counters.repeated >= 1
