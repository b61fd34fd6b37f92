"""`dramac agents`: what agents there are, and changing them."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from infra.agent_fields import agent_fields
from infra.agent_files import activate_agent, apply_agent, create_agent, read_agent, write_agent
from infra.asking import ask, until_visible
from infra.cli.agent_versions import as_saved, register
from infra.cli.common import JsonFlag, err, out, print_json, run, table
from infra.cli.tables import open_tables
from infra.connections import open_log, open_pool
from infra.places import endpoints_of
from infra.reports.library import load_templates
from infra.settings import Settings
from processors.tools.globs import matches
from processors.tools.registry import BUILTIN
from projections.queries.agents import Agent, get_agent, list_agents
from projections.queries.goals import AgentGoal, list_goals
from projections.queries.versions import get_version
from schemas.agents import AgentConfig
from schemas.commands import (
    ERROR_CHARS,
    ActivateAgent,
    AgentCommand,
    DeactivateAgent,
    DeleteAgent,
    UpdateAgent,
)
from schemas.envelope import EventEnvelope
from schemas.errors import RefusedError
from schemas.events import AgentDeleted, AgentUpdated, Event, ExecutionCancelled
from schemas.message import JsonObject
from schemas.schedules import parse_schedule

app = typer.Typer(no_args_is_help=True)
register(app)

_SIGNS = {"gt": ">", "gte": "≥", "lt": "<", "lte": "≤", "eq": "="}

Files = Annotated[list[Path], typer.Argument(help="YAML files, each with one agent.")]
Slug = Annotated[str, typer.Argument(help="The agent's slug or id.")]


@app.command("apply")
def apply(
    files: Files,
    activate: Annotated[bool, typer.Option("--activate", help="And let its triggers start runs.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Create agents, or bring them to what the files say."""

    async def work(settings: Settings) -> None:
        templates = load_templates(settings.report_templates)
        configs = [read_agent(path, templates) for path in files]  # all of them, before anything is changed
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            done = []
            for config in configs:
                agent_id, applied = await apply_agent(log, settings.site_id, settings.user, config)
                active = activate and await activate_agent(log, settings.site_id, settings.user, agent_id)
                await until_visible(log, pool, agent_id)
                done.append({"slug": config.slug, "id": agent_id, "applied": applied, "activated": active})
                if not as_json:
                    out().print(f"{config.slug}: {applied}{', activated' if active else ''}")
                    _warn(config)
            if as_json:
                print_json(done)

    run(work)


@app.command("create")
def create(
    files: Files,
    activate: Annotated[bool, typer.Option("--activate", help="And let its triggers start runs.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Create agents from files; one that exists with another configuration is left as it is, and is an error."""

    async def work(settings: Settings) -> int:
        templates = load_templates(settings.report_templates)
        configs = [read_agent(path, templates) for path in files]  # all of them, before anything is changed
        endpoints = await endpoints_of(settings)
        done: list[JsonObject] = []
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            for config in configs:
                agent_id, made = await create_agent(log, settings.site_id, settings.user, config)
                active = activate and await activate_agent(log, settings.site_id, settings.user, agent_id)
                await until_visible(log, pool, agent_id)
                done.append({"slug": config.slug, "id": agent_id, "created": made, "activated": active})
                if not as_json:
                    said = "created" if made else "exists already, just so"
                    out().print(f"{config.slug}: {said}{', activated' if active else ''}")
                    _warn(config)
        if as_json:
            print_json(done)
        return 0

    run(work)


@app.command("update")
def update(
    file: Annotated[Path, typer.Argument(help="A YAML file with the agent.")],
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", min=1, help="Only if the agent is at this version still.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a new version of an agent that exists; what runs stays with the version that it began with."""

    async def work(settings: Settings) -> None:
        config = read_agent(file, load_templates(settings.report_templates))
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            row = await get_agent(pool, settings.site_id, config.slug)
            command = UpdateAgent(config=config, expected_version=expected_version, reason=reason[:ERROR_CHARS])
            answer = await ask(log, site_id=settings.site_id, agent_id=row.id, user=settings.user, command=command)
            await until_visible(log, pool, row.id)
        updated = next(e.event for e in answer if isinstance(e.event, AgentUpdated))
        changed = sorted(updated.changes)
        if as_json:
            print_json({"slug": row.slug, "id": row.id, "version": updated.agent_version, "changed": changed})
        else:
            out().print(f"{row.slug}: version {updated.agent_version} ({', '.join(changed)})")
            _warn(config)

    run(work)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the site's agents."""

    async def work(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            rows = await list_agents(pool, settings.site_id)
        if as_json:
            print_json(rows)
            return
        shown = table("slug", "name", "type", "version", "active", "runs", "completed", "failed", "last run")
        for row in rows:
            shown.add_row(
                row.slug,
                Text(row.name),
                row.agent_type,
                str(row.agent_version),
                "yes" if row.is_active else "no",
                str(row.total_runs),
                str(row.successful_runs),
                str(row.failed_runs),
                f"{row.last_run_at:%Y-%m-%d %H:%M:%S}" if row.last_run_at else "",
            )
        out().print(shown if rows else "no agents yet: dramac agents apply FILE.yaml")

    run(work)


@app.command("show")
def show(
    agent: Slug,
    version: Annotated[int | None, typer.Option("--version", min=1, help="As it was at this version.")] = None,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print the file that makes this very agent.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show one agent with its configuration and its goals."""

    async def work(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            if version is not None and version != row.agent_version:
                config = await get_version(pool, settings.site_id, row.id, version)
                row = replace(row, config=config, agent_version=version)
            goals = await list_goals(pool, settings.site_id, row.id)
        if as_yaml:
            typer.echo(write_agent(as_saved(row.config)), nl=False)
        elif as_json:
            print_json(row)
        else:
            _print(row, goals if version is None else ())

    run(work)


@app.command("goals")
def goals(agent: Slug, as_json: JsonFlag = False) -> None:
    """List an agent's goals, and how far they are."""

    async def work(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            found = await list_goals(pool, settings.site_id, row.id)
        if as_json:
            print_json([_goal(goal) for goal in found])
        elif found:
            out().print(_goals(found))
        else:
            out().print(f"{row.slug} has no goals")

    run(work)


@app.command("fields")
def fields(as_json: JsonFlag = False) -> None:
    """List the fields of an agent's file: type, default and meaning."""
    if as_json:
        print_json([asdict(field) for field in agent_fields()])
        return
    shown = table("field", "type", "default", "meaning")
    for field in agent_fields():
        shown.add_row(Text(field.name), Text(field.type), Text(field.default), Text(field.meaning))
    out().print(shown)


@app.command("activate")
def activate(agent: Slug, as_json: JsonFlag = False) -> None:
    """Let an agent's triggers start runs."""
    _change(agent, ActivateAgent(), "active", as_json)


@app.command("deactivate")
def deactivate(
    agent: Slug,
    cancel_runs: Annotated[
        bool, typer.Option("--cancel-runs", help="Cancel what runs; without it, what runs finishes.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start no more runs; what runs finishes, or is cancelled."""
    if not cancel_runs:
        _change(agent, DeactivateAgent(), "not active", as_json)
        return

    async def work(settings: Settings) -> None:
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            command = DeactivateAgent(cancel_runs=True)
            cancelled, in_last = 0, 1
            while in_last:  # one command cancels some: how many depends on what the runs did
                try:
                    answer = await ask(
                        log, site_id=settings.site_id, agent_id=row.id, user=settings.user, command=command
                    )
                except RefusedError as error:
                    if error.reason != "nothing_to_do" or not cancelled:
                        raise
                    break
                in_last = _cancelled(answer)
                cancelled += in_last
            await until_visible(log, pool, row.id)
        if as_json:
            print_json({"slug": row.slug, "id": row.id, "cancelled": cancelled})
        else:
            out().print(f"{agent}: not active, {cancelled} runs cancelled")

    run(work)


@app.command("delete")
def delete(agent: Slug, as_json: JsonFlag = False) -> None:
    """Delete an agent and cancel its runs; its history stays."""
    _change(agent, DeleteAgent(), "deleted", as_json, until=AgentDeleted)


def _cancelled(answer: Sequence[EventEnvelope]) -> int:
    return sum(isinstance(envelope.event, ExecutionCancelled) for envelope in answer)


def _change(agent: str, command: AgentCommand, done: str, as_json: bool, *, until: type[Event] | None = None) -> None:
    """Ask for a change; again, where one command may do only a part of it, `until` an event says that all is done."""

    async def work(settings: Settings) -> None:
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            answer: list[EventEnvelope] = []
            while True:
                part = await ask(log, site_id=settings.site_id, agent_id=row.id, user=settings.user, command=command)
                answer += part
                if until is None or not _cancelled(part) or any(isinstance(one.event, until) for one in part):
                    break
            await until_visible(log, pool, row.id)
        if as_json:
            print_json({"slug": row.slug, "id": row.id, "events": [envelope.type for envelope in answer]})
        else:
            out().print(f"{agent}: {done}")

    run(work)


def _warn(config: AgentConfig) -> None:
    unserved = [glob for glob in config.allowed_tools if not any(matches(glob, tool.name) for tool in BUILTIN)]
    if unserved:
        err().print(f"  note: no tool of this release fits {', '.join(unserved)}", style="yellow")
    now_ms = time.time_ns() // 1_000_000
    for key in config.schedule_keys:
        schedule = parse_schedule(key)
        due_ms = schedule.next_after(now_ms)
        if due_ms is not None:
            due = datetime.fromtimestamp(due_ms // 1000, ZoneInfo(schedule.zone))
            err().print(f"  {schedule.key}: next due {due:%Y-%m-%d %H:%M %Z}")


def _print(row: Agent, goals: tuple[AgentGoal, ...]) -> None:
    console = out()
    console.print(f"[bold]{escape(row.name)}[/bold] ({row.slug}), {row.agent_type}, version {row.agent_version}")
    console.print(f"id {row.id}, {'active' if row.is_active else 'not active'}, {row.total_runs} runs")
    shown = table("field", "value")
    for name, value in row.config.items():
        if value not in (None, [], {}, "") and (name != "goals" or not goals):
            shown.add_row(name, Text(str(value)))
    console.print(shown)
    if goals:
        console.print(_goals(goals))


def _goals(goals: tuple[AgentGoal, ...]) -> Table:
    shown = table("goal", "priority", "target", "so far", "period", "state", "due")
    for goal in goals:
        target = f"{_SIGNS[goal.comparison]} {goal.target_value.normalize():f}" if goal.target_value is not None else ""
        so_far = f"{goal.current_value.normalize():f}" if goal.current_value is not None else ""
        state = "achieved" if goal.is_achieved else "missed" if goal.is_missed else "" if goal.event else "not measured"
        due = f"{goal.deadline:%Y-%m-%d %H:%M}" if goal.deadline else ""
        shown.add_row(Text(goal.name), str(goal.priority), target, so_far, goal.period or "", state, due)
    return shown


def _goal(goal: AgentGoal) -> JsonObject:
    told = asdict(goal)
    return told | {name: float(told[name]) for name in ("target_value", "current_value") if told[name] is not None}
