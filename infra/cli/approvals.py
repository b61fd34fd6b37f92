"""`dramac approvals`: risky actions that wait for a person, and answering them."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from infra.asking import ask, until_visible
from infra.cli.common import JsonFlag, out, print_json, run, table
from infra.cli.tables import open_tables, show_one
from infra.connections import open_log, open_pool
from infra.places import endpoints_of
from infra.settings import Settings
from infra.visible import visible
from projections.queries.approvals import (
    Approval,
    ApprovalStatus,
    get_approval,
    list_approvals,
    pending_approvals,
)
from schemas.commands import ResolveApproval
from schemas.errors import ConfigurationError, RefusedError
from schemas.events import ApprovalRequested, ToolDenied
from schemas.exact import INT64, dump_exact
from schemas.message import JsonObject

app = typer.Typer(no_args_is_help=True)

EDIT_BYTES = 256 * 1024
DIGITS = 20  # what 64 bits hold
_RISK_STYLES = {"low": "green", "medium": "yellow", "high": "red", "critical": "bold red"}
_STATUS_STYLES = {"pending": "yellow", "approved": "green", "denied": "red", "expired": "dim"}

ApprovalRef = Annotated[str, typer.Argument(help="The approval's id, or any unique beginning of it.")]
Note = Annotated[str, typer.Option(help="Why, for the record.")]
As = Annotated[str | None, typer.Option("--as", help="Who answers; DRAMAC_USER otherwise.")]


@app.command("list")
def list_(
    status: Annotated[str, typer.Option(help="pending, approved, denied, expired, or all.")] = "pending",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List what waits for a person, the oldest first; with --status, what was answered, the newest first."""

    async def work(settings: Settings) -> None:
        known = (*get_args(ApprovalStatus), "all")
        if status not in known:
            raise ConfigurationError(f"there is no status {status!r}: there are {', '.join(known)}")
        wanted = None if status == "all" else cast("ApprovalStatus", status)
        async with open_tables(settings) as pool:
            if wanted == "pending":
                rows = await pending_approvals(pool, settings.site_id, limit=limit)
            else:
                rows = await list_approvals(pool, settings.site_id, status=wanted, limit=limit)
        if as_json:
            print_json(rows)
            return
        shown = table("approval", "agent", "what would be done", "risk", "who may answer", "", "asked")
        for row in rows:
            shown.add_row(
                row.id,
                escape(row.agent_slug or row.agent_id),
                escape(" ".join(row.action_description.split())[:100]),
                _risk(row),
                row.role,
                time_left(row.expires_at) if row.status == "pending" else _status(row),
                f"{row.created_at:%Y-%m-%d %H:%M:%S}",
            )
        out().print(shown if rows else "nothing waits for a person" if status == "pending" else "there are none")

    run(work)


@app.command("show")
def show(approval: ApprovalRef, as_json: JsonFlag = False) -> None:
    """Show exactly what would be done, why it is risky, and how long there is to answer."""

    async def work(settings: Settings) -> None:
        await show_one(settings, get_approval, approval, print_approval, as_json=as_json)

    run(work)


@app.command("approve")
def approve(
    approval: ApprovalRef,
    note: Note = "",
    edit: Annotated[
        Path | None, typer.Option(help="A JSON file with other arguments: asks anew, for somebody else to approve.")
    ] = None,
    as_: As = None,
    as_json: JsonFlag = False,
) -> None:
    """Let the action be carried out, once, as it is shown."""

    async def work(settings: Settings) -> None:
        arguments = _read_arguments(edit) if edit is not None else None
        await _resolve(settings, approval, approved=True, note=note, arguments=arguments, who=as_, as_json=as_json)

    run(work)


@app.command("deny")
def deny(approval: ApprovalRef, note: Note = "", as_: As = None, as_json: JsonFlag = False) -> None:
    """Refuse the action; what becomes of the run is the agent's `on_denial`."""

    async def work(settings: Settings) -> None:
        await _resolve(settings, approval, approved=False, note=note, arguments=None, who=as_, as_json=as_json)

    run(work)


async def _resolve(
    settings: Settings,
    ref: str,
    *,
    approved: bool,
    note: str,
    arguments: JsonObject | None,
    who: str | None,
    as_json: bool,
) -> None:
    endpoints = await endpoints_of(settings)
    async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
        found = await get_approval(pool, settings.site_id, ref)
        command = ResolveApproval(
            execution_id=found.execution_id,
            approval_id=found.id,
            approved=approved,
            note=note,
            roles=settings.roles,
            call_sha256=found.call_sha256,
            arguments=arguments,
        )
        user = who or settings.user
        try:
            answer = await ask(log, site_id=settings.site_id, agent_id=found.agent_id, user=user, command=command)
        except RefusedError as error:
            if error.reason not in ("not_pending", "not_found") or found.status == "pending":
                raise
            by = f" by {found.resolved_by}" if found.resolved_by is not None else ""
            raise RefusedError(f"{found.id} was {found.status}{by} already", reason=error.reason) from None
        await until_visible(log, pool, found.agent_id)
    said = [envelope.event for envelope in answer]
    anew = next((event.approval_id for event in said if isinstance(event, ApprovalRequested)), None)
    refused = next((event.message for event in said if isinstance(event, ToolDenied)), None) if approved else None
    became = "replaced" if anew is not None else "approved" if approved else "denied"
    if as_json:
        print_json({"id": found.id, "status": became, "replaced_by": anew, "refused": refused})
    elif anew is not None:
        out().print(f"{found.id}: asked anew with other arguments: {anew}, for somebody else to approve")
    else:
        out().print(f"{found.id}: {became}")
        if refused is not None:
            out().print(f"but it is not carried out: {escape(refused)}")


def print_approval(console: Console, found: Approval) -> None:
    """Print what would be done, in full: who answers must see all of it."""
    console.print(f"[bold]approval[/bold] {found.id}  {_status(found)}")
    console.print(
        f"agent {escape(found.agent_slug or found.agent_id)}, run {found.execution_id}, step {found.step_number}"
    )
    console.print(f"asked for by {escape(found.requested_by or 'the site itself')}")
    console.print(f"risk {_risk(found)}: {escape(found.risk_explanation)}")
    console.print(f"\n[bold]{escape(found.tool_name)}[/bold]")
    told = dump_exact(found.arguments, orjson.OPT_INDENT_2).decode() if found.arguments is not None else "…"
    console.print(visible(told), markup=False)
    console.print(f"sha256 of it {found.call_sha256}\n", style="dim")
    if found.edited_by is not None:
        console.print(f"{escape(found.edited_by)} changed the arguments that {found.replaces} asked for")
    if found.status == "pending":
        asked = f", escalated {found.escalated_at:%Y-%m-%d %H:%M:%S}" if found.escalated_at is not None else ""
        console.print(f"{time_left(found.expires_at)} left for somebody with the role {found.role!r}{asked}")
    elif found.resolved_by is not None:
        console.print(f"{found.status} by {found.resolved_by} at {found.resolved_at:%Y-%m-%d %H:%M:%S}", markup=False)
        if found.resolution_note:
            console.print(f"“{visible(found.resolution_note)}”", markup=False)
        if found.replaced_by is not None:
            console.print(f"asked anew with other arguments: {found.replaced_by}")


def time_left(until: datetime | None, now_s: float | None = None) -> str:
    """Return how long there is to answer, in words."""
    if until is None:
        return ""
    left_s = int(until.timestamp() - (time.time() if now_s is None else now_s))
    if left_s <= 0:
        return "no time"
    hours, minutes = divmod(left_s // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{left_s} s"


def _risk(approval: Approval) -> str:
    style = _RISK_STYLES.get(approval.risk_level, "red")
    return f"[{style}]{approval.risk_level}[/{style}]"


def _status(approval: Approval) -> str:
    style = _STATUS_STYLES[approval.status]
    return f"[{style}]{approval.status}[/{style}]"


def _exact(number: str) -> int:
    """Return an integer as it was written: whoever approves must see what the editor saw."""
    if len(number.lstrip("-")) > DIGITS or not number.lstrip("-").isdecimal() or int(number) not in INT64:
        raise ValueError(f"{number[:40]} can't be kept exactly: write it as a text")
    return int(number)


def _read_arguments(path: Path) -> JsonObject:
    try:
        raw = path.read_bytes()
        told = json.loads(raw, parse_int=_exact, parse_constant=_exact) if len(raw) <= EDIT_BYTES else None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON: {error}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if not isinstance(told, dict):
        raise ConfigurationError(f"{path}: arguments are one JSON object of at most {EDIT_BYTES} bytes")
    return told
