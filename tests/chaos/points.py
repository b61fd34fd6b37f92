"""Where a worker can be made to die by SIGKILL: before, during or after the call of a known function.

Production code knows nothing of this. A worker of tests wraps the one function of its point before it starts; all
others stay as they are.
"""

import asyncio
import inspect
import os
import random
import signal
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from asyncpg.transaction import Transaction

from infra.context import CatalogueContext
from infra.models.scripted import ScriptedModel
from infra.modules.outbox import Outbox
from infra.modules.router import ToolRouter
from infra.modules.sandbox import Sandbox
from processors.runtime.checkpoints import END_PREFIX, Checkpoints
from processors.runtime.partition import Partition
from processors.runtime.worker import Worker
from processors.triggers.directory import Directory
from projections.batch import Batch
from projections.projector import Projector
from streams.kafka import KafkaLog
from streams.kafka_consumers import KafkaMember
from streams.log import Draft
from streams.topics import COMMANDS, EVENTS
from tests.chaos.notes import Notes
from tests.chaos.tools import OnceGateway

LONGEST_DURING_S = 0.004  # an append takes 1 to 3 ms: a kill "during" hits before, in between and after
When = Literal["before", "during", "after"]
Matches = Callable[..., bool]

_projecting: ContextVar[bool] = ContextVar("projecting", default=False)


def _always(*_: object, **__: object) -> bool:
    return True


def _appends_to(wanted: str) -> Matches:
    def matches(_log: KafkaLog, topic: str, _partition: int, _drafts: Sequence[Draft]) -> bool:
        return topic == wanted

    return matches


def _tells(*wires: str) -> Matches:
    """Whether a command of these types is sent."""
    wanted = {wire.encode() for wire in wires}

    def matches(_log: KafkaLog, topic: str, draft: Draft, *, partition: int | None = None) -> bool:
        return topic == COMMANDS and any(name == "ce_type" and value in wanted for name, value in draft.headers)

    return matches


def _is_end(_checkpoints: Checkpoints, key: bytes, _value: bytes) -> bool:
    return key.startswith(END_PREFIX)


def _is_something(_checkpoints: Checkpoints, keys: Sequence[bytes]) -> bool:
    return bool(keys)


def _is_restoring(partition: Partition, *_: object) -> bool:
    return not partition.caught_up


def _is_projecting(*_: object) -> bool:
    return _projecting.get()


@dataclass(frozen=True, slots=True)
class Point:
    """A place to die at: `when` of the call of `owner.method`, if it `matches`.

    `least` and `often` are the first and the last of its turns that are of use.
    """

    name: str
    owner: type
    method: str
    when: When
    matches: Matches = _always
    often: int = 6
    least: int = 1


ALL = (
    # The partition's loop: read, decide, append, effects.
    Point("before-append", KafkaLog, "append", "before", _appends_to(EVENTS), 8),
    Point("during-append", KafkaLog, "append", "during", _appends_to(EVENTS), 8),
    Point("after-append", KafkaLog, "append", "after", _appends_to(EVENTS), 8),
    Point("effects-started", Partition, "_start", "after", often=12),
    Point("rebalanced", Worker, "_rebalanced", "after", often=1),
    Point("restoring", Partition, "_fold", "before", _is_restoring, 20),
    Point("restored", Partition, "_restore", "after", often=4),
    Point("catching-up", Partition, "_decide", "before", _is_restoring, 20),
    # Images of the state: blobs, then the end that names them, then tombstones for older ones.
    Point("before-image", Checkpoints, "_write", "before", often=2),
    Point("before-image-end", Checkpoints, "_append", "before", _is_end, 2),
    Point("during-image-end", Checkpoints, "_append", "during", _is_end, 2),
    Point("after-image-end", Checkpoints, "_append", "after", _is_end, 2),
    Point("before-tombstones", Checkpoints, "_bury", "before", _is_something, 2),
    Point("reading-image", Checkpoints, "_restore", "after", often=2),
    # Models and tools.
    Point("before-context", CatalogueContext, "assemble", "before", often=2),
    Point("before-model", ScriptedModel, "complete", "before", often=10),
    Point("after-model", ScriptedModel, "complete", "after", often=10),
    Point("before-tool", ToolRouter, "call", "before", often=8),
    Point("tool-uncommitted", Sandbox, "_change_once", "after", often=4),
    Point("tool-committed", Outbox, "publish_left_if_possible", "before", often=5, least=2),
    Point("tool-published", Outbox, "publish_left_if_possible", "after", often=5, least=2),
    Point("after-tool", ToolRouter, "call", "after", often=8),
    Point("before-once", OnceGateway, "call", "before", often=2),
    Point("after-once", OnceGateway, "call", "after", often=2),
    # Their results on the way into the log.
    Point("before-result", KafkaLog, "send", "before", _tells("ai.tool.record_result"), 6),
    Point("during-result", KafkaLog, "send", "during", _tells("ai.tool.record_result"), 6),
    Point("after-result", KafkaLog, "send", "after", _tells("ai.tool.record_result"), 6),
    Point("during-thought", KafkaLog, "send", "during", _tells("ai.step.record_thought"), 6),
    Point("after-thought", KafkaLog, "send", "after", _tells("ai.step.record_thought"), 6),
    Point("after-start-tool", KafkaLog, "send", "after", _tells("ai.tool.start"), 2),
    # The router.
    Point("router-reading", Directory, "read_to", "after", often=2),
    Point("router-sent", KafkaMember, "commit", "before", often=2),
    Point("router-committed", KafkaMember, "commit", "after", often=2),
    # The projector: the checkpoint moves first, then the rows, then both are committed.
    Point("checkpoint-moved", Batch, "write", "before", often=8),
    Point("rows-written", Batch, "write", "after", often=8),
    Point("during-commit", Transaction, "__aexit__", "during", _is_projecting, 8),
    Point("after-commit", Projector, "_write", "after", often=8),
)
POINTS = {point.name: point for point in ALL}


def arm(name: str, count: int, notes: Notes) -> None:
    """Let this process die when it comes to the point `name` for the `count`-th time."""
    point = POINTS[name]
    left = count

    def is_due(*arguments: Any, **named: Any) -> bool:
        nonlocal left
        if not point.matches(*arguments, **named):
            return False
        left -= 1
        return left == 0

    def die() -> NoReturn:
        notes.add("kill", name)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL leaves nobody here")

    if point.matches is _is_projecting:
        _mark_projecting()
    original = getattr(point.owner, point.method)
    wrap = _wrapped if inspect.iscoroutinefunction(original) else _wrapped_sync
    setattr(point.owner, point.method, wrap(original, point.when, is_due, die))


def _wrapped(original: Any, when: When, is_due: Matches, die: Callable[[], NoReturn]) -> Any:
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        due = is_due(*arguments, **named)
        if due and when == "before":
            die()
        if due and when == "during":
            under_way = asyncio.ensure_future(original(*arguments, **named))
            await asyncio.wait([under_way], timeout=random.uniform(0, LONGEST_DURING_S))
            die()
        result = await original(*arguments, **named)
        if due:
            die()
        return result

    return wrapped


def _wrapped_sync(original: Any, when: When, is_due: Matches, die: Callable[[], NoReturn]) -> Any:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        due = is_due(*arguments, **named)
        if due and when == "before":
            die()
        result = original(*arguments, **named)
        if due:
            die()
        return result

    return wrapped


def _mark_projecting() -> None:
    """Tell the projector's transactions from all others."""
    write: Any = Projector._write

    async def marked(*arguments: Any) -> None:
        _projecting.set(True)  # in the task that writes this one batch
        await write(*arguments)

    setattr(Projector, "_write", marked)  # noqa: B010 - a method is assigned
