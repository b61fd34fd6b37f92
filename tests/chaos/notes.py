"""What worker processes note while they work: what they begin, and where they die. Notes survive `kill -9`."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

Kind = Literal["model", "tool", "once", "effect", "kill"]


@dataclass(frozen=True, slots=True)
class Note:
    """One line. `name` is a call's id, a run's id and step, or a kill point.

    `goal` is the offset of `ai.commands` up to which the owner had caught up before it began anything, `since_ms`
    when the group gave it the partition: a result that stood before either should have kept it from beginning.
    """

    kind: Kind
    name: str
    goal: int = 0
    since_ms: int = 0
    at_ms: int = 0
    pid: int = 0


class Notes:
    """Appends notes to a file of this process: what is handed to the system outlives the process."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, kind: Kind, name: str, *, goal: int = 0, since_ms: int = 0) -> None:
        note = Note(kind, name, goal, since_ms, time.time_ns() // 1_000_000, os.getpid())
        os.write(self._file, orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE))


def read_notes(folder: Path) -> Iterator[Note]:
    """All notes of all workers that had this folder, worker by worker."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            yield Note(**orjson.loads(line))
