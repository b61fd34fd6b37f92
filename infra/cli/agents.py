"""`dramac agents`: what agents there are, and changing them."""

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from infra.agent_files import activate_agent, apply_agent, read_agent
from infra.asking import ask, until_visible
from infra.cli.common import JsonFlag, err, out, print_json, run, table
from infra.places import endpoints_of, postgres_alone
from infra.settings import Settings
from infra.wiring import open_log, open_pool
from projections.queries.agents import Agent, get_agent, list_agents
from schemas.agents import AgentConfig
from schemas.commands import ActivateAgent, AgentCommand, DeactivateAgent, DeleteAgent
from schemas.schedules import parse_schedule

app = typer.Typer(no_args_is_help=True)

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
        configs = [read_agent(path) for path in files]  # all of them, before anything is changed
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
                    _say_when(config)
            if as_json:
                print_json(done)

    run(work)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the site's agents."""

    async def work(settings: Settings) -> None:
        async with open_pool(await postgres_alone(settings), size=1) as pool:
            rows = await list_agents(pool, settings.site_id)
        if as_json:
            print_json(rows)
            return
        shown = table("slug", "name", "type", "version", "active", "runs", "completed", "failed", "last run")
        for row in rows:
            shown.add_row(
                row.slug,
                row.name,
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
def show(agent: Slug, as_json: JsonFlag = False) -> None:
    """Show one agent with its configuration."""

    async def work(settings: Settings) -> None:
        async with open_pool(await postgres_alone(settings), size=1) as pool:
            row = await get_agent(pool, settings.site_id, agent)
        if as_json:
            print_json(row)
        else:
            _print(row)

    run(work)


@app.command("activate")
def activate(agent: Slug, as_json: JsonFlag = False) -> None:
    """Let an agent's triggers start runs."""
    _change(agent, ActivateAgent(), "active", as_json)


@app.command("deactivate")
def deactivate(agent: Slug, as_json: JsonFlag = False) -> None:
    """Start no more runs; what runs may finish."""
    _change(agent, DeactivateAgent(), "not active", as_json)


@app.command("delete")
def delete(agent: Slug, as_json: JsonFlag = False) -> None:
    """Delete an agent and cancel its runs; its history stays."""
    _change(agent, DeleteAgent(), "deleted", as_json)


def _change(agent: str, command: AgentCommand, done: str, as_json: bool) -> None:
    async def work(settings: Settings) -> None:
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            answer = await ask(log, site_id=settings.site_id, agent_id=row.id, user=settings.user, command=command)
            await until_visible(log, pool, row.id)
        if as_json:
            print_json({"slug": row.slug, "id": row.id, "events": [envelope.type for envelope in answer]})
        else:
            out().print(f"{agent}: {done}")

    run(work)


def _say_when(config: AgentConfig) -> None:
    now_ms = time.time_ns() // 1_000_000
    for key in config.schedule_keys:
        schedule = parse_schedule(key)
        due_ms = schedule.next_after(now_ms)
        if due_ms is not None:
            due = datetime.fromtimestamp(due_ms // 1000, ZoneInfo(schedule.zone))
            err().print(f"  {schedule.key}: next due {due:%Y-%m-%d %H:%M %Z}")


def _print(row: Agent) -> None:
    console = out()
    console.print(f"[bold]{row.name}[/bold] ({row.slug}), {row.agent_type}, version {row.agent_version}")
    console.print(f"id {row.id}, {'active' if row.is_active else 'not active'}, {row.total_runs} runs")
    shown = table("field", "value")
    for name, value in row.config.items():
        if value not in (None, [], {}, ""):
            shown.add_row(name, str(value))
    console.print(shown)
