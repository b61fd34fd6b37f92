"""What a process brings to its partitions."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from processors.executions.context import ContextPort
from processors.models.port import ModelPort
from processors.tools.port import ToolPort
from schemas.ids import CallId, random_id
from streams.log import Log


@dataclass(slots=True)
class Process:
    """What all partitions of one process share. `runner` names this process, anew at each start.

    `begun` has every call that can't be repeated and was begun here, until the log has what became of it: none is begun
    twice, and none is cancelled when its partition moves or restores. `telling` are results on their way into the log:
    they were paid for, and nothing cancels them either. Both outlive every partition's state.
    """

    log: Log
    models: ModelPort
    tools: ToolPort
    context: ContextPort
    runner: str = field(default_factory=lambda: f"runner-{random_id()}")
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    begun: dict[CallId, asyncio.Task[None]] = field(default_factory=dict)
    telling: set[asyncio.Task[None]] = field(default_factory=set)
