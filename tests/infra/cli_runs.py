"""Runs the command line: in this process, which is fast, or in one of its own."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from typer.testing import CliRunner

from infra.cli.main import app
from schemas.message import Json
from tests.signals import hear_ctrl_c

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        return orjson.loads(self.out)

    def says_in_one_line(self, *words: str) -> bool:
        """Whether all there is to read is one line of an error, with these words."""
        return self.out == "" and self.err.count("\n") == 1 and all(word in self.err for word in words)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, without the settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRAMAC_")}
    return {**kept, "COLUMNS": "200", **settings}


def command(*arguments: str) -> list[str]:
    """The command line as a process."""
    return [sys.executable, "-m", "infra.cli", *arguments]


def dramac(settings: Mapping[str, str], *arguments: str, stdin: bytes = b"") -> Ran:
    """Run a command in this process."""
    gone = {name: None for name in os.environ if name.startswith("DRAMAC_") and name not in settings}
    with _logging_kept():
        done = CliRunner().invoke(app, arguments, input=stdin, env={**gone, "COLUMNS": "200", **settings})
    return Ran(done.exit_code, done.stdout, done.stderr)


@contextmanager
def _logging_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers = root.handlers[:]
    loggers = [root, *(logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger))]
    kept = [(logger, logger.level, logger.disabled) for logger in loggers]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger in root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.setLevel(logging.NOTSET)
        for logger, level, disabled in kept:
            logger.setLevel(level)
            logger.disabled = disabled


def dramac_process(settings: Mapping[str, str], *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a command in a process of its own."""
    return subprocess.Popen(
        command(*arguments),
        cwd=PROJECT,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hear_ctrl_c,
    )
