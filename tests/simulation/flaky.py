"""A decider that fails here and not there: what makes two owners' decisions differ."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from processors.runtime import decision, partition, stream
from tests.simulation.loop import HOST
from tests.simulation.world import World


class FlakyError(Exception):
    """This process can't decide this command."""


@contextmanager
def flaky(world: World) -> Iterator[None]:
    """Let `decide`, or applying what was decided, fail on some commands of some processes, while there are faults."""
    if not world.scenario.flaky:
        yield
        return
    decide, apply = stream.decide, decision.apply

    def fails(what: str, offset: int, odds: float) -> bool:
        draw = random.Random(f"{world.name}/{HOST.get().name}/{what}/{offset}").random()
        return world.troubled and draw < odds

    def decide_or_fail(state: Any, envelope: Any, at_ms: int) -> Any:
        if fails("decide", envelope.offset, world.scenario.flaky):
            raise FlakyError
        return decide(state, envelope, at_ms)

    def apply_or_fail(state: Any, envelope: Any, decided: Any) -> None:
        apply(state, envelope, decided)
        internal = any(getattr(event, "reason", None) == "internal" for event in decided.events)
        if not internal and fails("apply", envelope.offset, world.scenario.flaky / 4):
            raise FlakyError

    with ExitStack() as stack:
        stack.enter_context(patch.object(decision, "decide", decide_or_fail))
        stack.enter_context(patch.object(partition, "apply", apply_or_fail))
        yield
