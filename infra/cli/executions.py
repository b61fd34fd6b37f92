"""`dramac executions`: what runs there were and are."""

from typing import Annotated, cast, get_args

import typer

from infra.asking import ask, until_visible
from infra.cli.common import JsonFlag, out, print_json, run, table
from infra.cli.rows import print_execution
from infra.places import endpoints_of, postgres_alone
from infra.settings import Settings
from infra.wiring import open_log, open_pool
from projections.queries.agents import get_agent
from projections.queries.executions import ExecutionStatus, get_execution, list_executions
from schemas.commands import CancelExecution
from schemas.errors import ConfigurationError

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
        async with open_pool(await postgres_alone(settings), size=1) as pool:
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
def show(execution: RunId, as_json: JsonFlag = False) -> None:
    """Show one run with its steps and tool calls."""

    async def work(settings: Settings) -> None:
        async with open_pool(await postgres_alone(settings), size=1) as pool:
            found = await get_execution(pool, settings.site_id, execution)
        if as_json:
            print_json(found)
        else:
            print_execution(out(), found)

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


def _status(text: str | None) -> ExecutionStatus | None:
    known = get_args(ExecutionStatus)
    if text is not None and text not in known:
        raise ConfigurationError(f"there is no status {text!r}: there are {', '.join(known)}")
    return cast("ExecutionStatus | None", text)
