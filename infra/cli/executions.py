"""`dramac executions`: what runs there were and are."""

from typing import Annotated, Literal, cast, get_args

import typer

from infra.asking import ask, until_visible
from infra.cli.common import JsonFlag, out, print_json, run, table
from infra.cli.prompts import show_prompt
from infra.cli.rows import print_execution, print_tree
from infra.cli.tables import open_tables, show_one
from infra.cli.tailing import tail_run
from infra.connections import open_log, open_pool
from infra.places import endpoints_of
from infra.settings import Settings
from projections.queries.agents import get_agent
from projections.queries.executions import Execution, ExecutionStatus, get_execution, list_executions, tree_of
from schemas.commands import CancelExecution, ResolveDoubt
from schemas.errors import ConfigurationError, NotFoundError
from schemas.exact import load_exact
from schemas.ids import CallId
from schemas.message import Json

app = typer.Typer(no_args_is_help=True)

RunId = Annotated[str, typer.Argument(help="The run's id, or any unique beginning of it.")]


@app.command("list")
def list_(
    agent: Annotated[str | None, typer.Option(help="Only this agent's, by slug or id.")] = None,
    status: Annotated[str | None, typer.Option(help="Only with this status, such as running or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, the newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the site's runs, the newest first."""

    async def work(settings: Settings) -> None:
        wanted = _status(status)
        async with open_tables(settings) as pool:
            found = await get_agent(pool, settings.site_id, agent) if agent is not None else None
            rows = await list_executions(
                pool, settings.site_id, agent_id=found.id if found else None, status=wanted, limit=limit
            )
        if as_json:
            print_json(rows)
            return
        shown = table("run", "agent", "woken by", "status", "steps", "tools", "tokens", "took", "started")
        for row in rows:
            shown.add_row(
                row.id,
                row.agent_slug or row.agent_id,
                row.trigger_event_type or row.trigger_type or "",
                row.status,
                str(row.current_step),
                str(row.tool_calls),
                str(row.tokens_total),
                f"{row.duration_ms} ms" if row.duration_ms is not None else "",
                f"{row.started_at:%Y-%m-%d %H:%M:%S}",
            )
        out().print(shown if rows else "no runs yet: dramac publish examples/events/contact_created.jsonl")

    run(work)


@app.command("show")
def show(
    execution: RunId,
    prompt: Annotated[
        int | None, typer.Option("--prompt", min=1, metavar="STEP", help="The very prompt of this step, from the log.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one run with its steps and tool calls; or what the model was asked, made again and compared."""

    async def work(settings: Settings) -> int:
        if prompt is not None:
            return await show_prompt(settings, execution, prompt, as_json)
        await show_one(settings, get_execution, execution, print_execution, as_json=as_json)
        return 0

    run(work)


@app.command("tail")
def tail(execution: RunId, as_json: JsonFlag = False) -> None:
    """Watch a run until it ends: its events, and in between what its model is saying."""

    async def work(settings: Settings) -> None:
        await tail_run(settings, execution, as_json)

    run(work)


@app.command("tree")
def tree(execution: RunId, as_json: JsonFlag = False) -> None:
    """Show all runs that belong together: a run, those that it delegated to, and those above it."""

    async def work(settings: Settings) -> None:
        await show_one(settings, tree_of, execution, print_tree, as_json=as_json)

    run(work)


@app.command("cancel")
def cancel(
    execution: RunId,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """End a run."""

    async def work(settings: Settings) -> None:
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            found = await get_execution(pool, settings.site_id, execution)
            command = CancelExecution(execution_id=found.id, reason=reason)
            await ask(log, site_id=settings.site_id, agent_id=found.agent_id, user=settings.user, command=command)
            await until_visible(log, pool, found.agent_id)
        if as_json:
            print_json({"id": found.id, "status": "cancelled"})
        else:
            out().print(f"{found.id}: cancelled")

    run(work)


@app.command("resolve-doubt")
def resolve_doubt(
    execution: RunId,
    call: Annotated[str, typer.Argument(help="The call in doubt: its id, or any unique beginning of it.")],
    outcome: Annotated[
        bool | None, typer.Option("--completed/--failed", help="Whether it was carried out, as you found.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="With --completed: what the tool answered, as JSON.")] = None,
    note: Annotated[str, typer.Option(help="How you know, for the record.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Say what became of a tool call that was begun and whose end nobody knows."""

    async def work(settings: Settings) -> None:
        if outcome is None:
            raise ConfigurationError("say what became of the call: --completed or --failed")
        answer = _answer(output, completed=outcome)
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            found = await get_execution(pool, settings.site_id, execution)
            call_id = _call_of(found, call)
            told: Literal["completed", "failed"] = "completed" if outcome else "failed"
            command = ResolveDoubt(execution_id=found.id, call_id=call_id, outcome=told, output=answer, note=note)
            await ask(log, site_id=settings.site_id, agent_id=found.agent_id, user=settings.user, command=command)
            await until_visible(log, pool, found.agent_id)
        if as_json:
            print_json({"id": found.id, "call_id": call_id, "status": told})
        else:
            out().print(f"{found.id}: call {call_id} {told}")

    run(work)


def _answer(output: str | None, *, completed: bool) -> Json:
    if output is None:
        return None
    if not completed:
        raise ConfigurationError("--output goes with --completed; say with --note what went wrong")
    try:
        return load_exact(output)
    except ValueError as error:
        raise ConfigurationError(
            f"--output is no JSON ({error}); quote it for the shell: --output '\"text\"'"
        ) from None


def _call_of(found: Execution, ref: str) -> CallId:
    ids = [call.id for call in found.calls if call.id.startswith(ref.lower())]
    if len(ids) != 1:
        doubts = ", ".join(call.id for call in found.calls if call.status == "in_doubt") or "none"
        told = "no call" if not ids else f"{len(ids)} calls"
        raise NotFoundError(f"{ref!r} names {told} of the run {found.id!r}; in doubt there: {doubts}")
    return ids[0]


def _status(text: str | None) -> ExecutionStatus | None:
    known = get_args(ExecutionStatus)
    if text is not None and text not in known:
        raise ConfigurationError(f"there is no status {text!r}: there are {', '.join(known)}")
    return cast("ExecutionStatus | None", text)
