"""The command `dramac`: what there is to call, in the order in which one meets it."""

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: where it is, and what it is for. `name` is a function of the module, or `app` for a group."""

    name: str
    help: str
    module: str

    @property
    def is_group(self) -> bool:
        """Whether it has commands of its own."""
        return self.name == "app"


def _one(module: str, help_: str) -> tuple[str, Entry]:
    return module, Entry(module, help_, f"infra.cli.{module}")


def _many(module: str, help_: str) -> tuple[str, Entry]:
    return module, Entry("app", help_, f"infra.cli.{module}")


COMMANDS = dict(
    (
        _one("demo", "Watch an agent work on a new contact: no key, no Docker, no questions asked."),
        _one("dev", "Run Kafka, Postgres and all workers here until Ctrl-C."),
        _one("worker", "Run the working parts until SIGTERM or Ctrl-C."),
        _one("api", "Serve webhooks and health at DRAMAC_API_HOST and DRAMAC_API_PORT until SIGTERM or Ctrl-C."),
        _one("publish", "Publish module events, and return once the log has them."),
        _many("agents", "Agents: create, update, apply, show, versions, diff, rollback, goals, and more."),
        _many("hooks", "Webhooks: create, list, rotate, enable, disable, delete, send, reseal."),
        _many("providers", "A site's own model providers and their keys: set, list, test, remove, reseal."),
        _many("prices", "What models cost: list, check."),
        _many("executions", "Runs: list, show, tail, tree, cancel, resolve-doubt."),
        _many("approvals", "Risky actions that wait for a person: list, show, approve, deny."),
        _many("reports", "Reports that analysts made: list, show, templates."),
        _many("events", "The log: follow it, dump it."),
        _one(
            "replay",
            "Show a run as the log has it, up to any point; with --strict, decide again from ai.commands and compare.",
        ),
        _one("verify", "Check every record of ai.events: that none was altered, lost or added since."),
        _many("audit", "Invariants, checked from the log and the tables."),
        _many("dlq", "Dead letters: list, show, redrive."),
        _many("topics", "Kafka topics: create, check."),
        _one("doctor", "Check this machine, the settings, and whatever of Kafka and Postgres can be reached."),
        _one(
            "bench",
            "Measure a closed loop of runs, each of 4 model and 3 tool calls that take no time, on servers of its own.",
        ),
    )
)


class LazyGroup(TyperGroup):
    """A group that loads the code of a command when that is called, so that none waits for the others' libraries."""

    def __init__(self, **settings: Any) -> None:
        """Know of each command what help shows; `settings` are click's."""
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=entry.help) for name, entry in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the name, the command itself, and its arguments."""
        name, shown, rest = super().resolve_command(ctx, args)
        return name, shown if name is None else load(name), rest


def load(name: str) -> TyperCommand | TyperGroup:
    """Return a command with its code."""
    entry = COMMANDS[name]
    target = getattr(import_module(entry.module), entry.name)
    command: TyperCommand | TyperGroup
    if entry.is_group:
        command = get_group(target)
        command.help = entry.help
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name, cls=TyperCommand)(target)
        command = cast("TyperCommand", get_command(alone))
    command.name = name
    return command


app = typer.Typer(
    name="dramac",
    cls=LazyGroup,
    help="AI agents a business can trust: everything they do is an immutable event.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _dramac() -> None: ...


def main() -> None:
    """Run the command line."""
    try:
        app()
    except BrokenPipeError:
        sys.exit(0)
