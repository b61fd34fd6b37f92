"""The command `dramac`: what there is to call, in the order in which one meets it."""

import sys

import typer

from infra.cli import (
    agents,
    api,
    audit,
    bench,
    demo,
    dev,
    dlq,
    doctor,
    events,
    executions,
    hooks,
    publish,
    replay,
    reports,
    tools,
    topics,
    verify,
    worker,
)

app = typer.Typer(
    name="dramac",
    help="AI agents a business can trust: everything they do is an immutable event.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(dev.dev)
app.command()(worker.worker)
app.command()(api.api)
app.command()(publish.publish)
app.add_typer(
    agents.app, name="agents", help="Agents: create, update, apply, show, versions, diff, rollback, goals, and more."
)
app.add_typer(hooks.app, name="hooks", help="Webhooks: create, list, rotate, enable, disable, delete, send, reseal.")
app.add_typer(tools.app, name="tools", help="Tools that agents may call: add, list, show, remove.")
app.add_typer(executions.app, name="executions", help="Runs: list, show, cancel, resolve-doubt.")
app.add_typer(reports.app, name="reports", help="Reports that analysts made: list, show, templates.")
app.add_typer(events.app, name="events", help="The log: follow it, dump it.")
app.command()(replay.replay)
app.command()(verify.verify)
app.add_typer(audit.app, name="audit", help="Invariants, checked from the log and the tables.")
app.add_typer(dlq.app, name="dlq", help="Dead letters: list, show, redrive.")
app.add_typer(topics.app, name="topics", help="Kafka topics: create, check.")
app.command()(doctor.doctor)
app.command()(bench.bench)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except BrokenPipeError:
        sys.exit(0)
