"""Nothing of this machine enters a run: chance, clocks and ids come from the seed and from virtual time."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

from processors.runtime import checkpoints, effects, images, partition
from schemas import ids
from streams import dead_letters, topics

BUCKET_PRINTS = 2  # larger buckets are blobs of their own


@contextmanager
def pinned(rng: random.Random, now_ms: Callable[[], int], image_events: int, *, quiet: bool = True) -> Iterator[None]:
    """Give the house's edges chance out of `rng` and time out of `now_ms`; `quiet` silences logging.

    An image is due after `image_events`, so that most restores begin with one.
    """
    clock = SimpleNamespace(
        time_ns=lambda: now_ms() * 1_000_000, perf_counter=lambda: now_ms() / 1000, monotonic=lambda: now_ms() / 1000
    )
    chance = SimpleNamespace(urandom=rng.randbytes)
    replaced: list[tuple[ModuleType, str, object]] = [
        (ids, "os", chance),
        (ids, "time", clock),
        (topics, "os", chance),
        (dead_letters, "time", clock),
        (effects, "time", clock),
        (partition, "CHECKPOINT_EVENTS", image_events),
        (partition, "LAST_CHECKPOINT_EVENTS", image_events // 3),
        (images, "INLINE_PRINTS", BUCKET_PRINTS),
        (checkpoints, "FIRST_LOOK", 4),
    ]
    before, disabled = random.getstate(), logging.root.manager.disable
    random.seed(rng.random())
    if quiet:
        logging.disable(logging.CRITICAL)
    try:
        with ExitStack() as stack:
            for module, name, value in replaced:
                if not hasattr(module, name):
                    continue
                stack.enter_context(patch.object(module, name, value))
            yield
    finally:
        logging.disable(disabled)
        random.setstate(before)
