"""`dramac agents versions|diff|rollback`: what an agent was before, and having that again."""

from typing import Annotated

import typer
from rich.text import Text

from infra.agent_diffs import Change, changes_between
from infra.asking import ask, until_visible
from infra.cli.common import JsonFlag, out, print_json, run, table
from infra.cli.tables import open_tables
from infra.connections import open_log, open_pool
from infra.places import endpoints_of
from infra.settings import Settings
from processors.agents.reading import read_config
from projections.queries.agents import get_agent
from projections.queries.versions import AgentVersion, config_of, list_versions
from schemas.agents import AgentConfig
from schemas.commands import ERROR_CHARS, UpdateAgent
from schemas.events import AgentUpdated
from schemas.message import STORED, Json, JsonObject

Slug = Annotated[str, typer.Argument(help="The agent's slug or id.")]
Version = Annotated[int, typer.Argument(min=1, help="A version, as `dramac agents versions` lists them.")]

_CELL_CHARS = 300
_STYLES = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def register(app: typer.Typer) -> None:
    """Add the commands to those of `dramac agents`."""
    app.command("versions")(versions)
    app.command("diff")(diff)
    app.command("rollback")(rollback)


def whole(versions: tuple[AgentVersion, ...], version: int) -> AgentConfig:
    """Return a version as this release reads it: fields of later releases have their defaults.

    Raises:
        NotFoundError: there is no such version.
    """
    return as_saved(config_of(versions, version))


def as_saved(config: JsonObject) -> AgentConfig:
    """Return a configuration that was saved once, whether or not it would be saved today."""
    return AgentConfig.model_validate(config, context=STORED)


def versions(agent: Slug, as_json: JsonFlag = False) -> None:
    """List the versions of an agent: who changed what, and when."""

    async def work(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            found = await list_versions(pool, settings.site_id, row.id)
        if as_json:
            print_json([_told(version) for version in found])
            return
        shown = table("version", "when", "who", "what", "why")
        for each in reversed(found):
            current = " (current)" if each.version == row.agent_version else ""
            when, what = f"{each.at:%Y-%m-%d %H:%M:%S}", _what(each)
            shown.add_row(f"{each.version}{current}", when, Text(each.changed_by), Text(what), Text(each.reason))
        out().print(shown)

    run(work)


def diff(agent: Slug, old: Version, new: Version, as_json: JsonFlag = False) -> None:
    """Show what differs between two versions, field by field."""

    async def work(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            found = await list_versions(pool, settings.site_id, row.id)
        before, after = (whole(found, version).model_dump(mode="json") for version in (old, new))
        changes = changes_between(before, after)
        if as_json:
            print_json([{"field": c.field, "kind": c.kind, "old": c.old, "new": c.new} for c in changes])
        elif not changes:
            out().print(f"{row.slug}: versions {old} and {new} are the same")
        else:
            out().print(f"[bold]{row.slug}[/bold], version {old} → {new}")
            for change in changes:
                out().print(_line(change))

    run(work)


def rollback(
    agent: Slug,
    version: Version,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a new version with the content of an earlier one."""

    async def work(settings: Settings) -> None:
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            row = await get_agent(pool, settings.site_id, agent)
            found = await list_versions(pool, settings.site_id, row.id)
            config = read_config(config_of(found, version))  # it may no longer be taken today
            command = UpdateAgent(
                config=config,
                expected_version=row.agent_version,  # somebody else's change meanwhile is not rolled back unseen
                rolled_back_to=version,
                reason=reason[:ERROR_CHARS],
            )
            answer = await ask(log, site_id=settings.site_id, agent_id=row.id, user=settings.user, command=command)
            await until_visible(log, pool, row.id)
        made = next(e.event.agent_version for e in answer if isinstance(e.event, AgentUpdated))
        if as_json:
            print_json({"slug": row.slug, "id": row.id, "version": made, "rolled_back_to": version})
        else:
            out().print(f"{row.slug}: version {made} is version {version} again")

    run(work)


def _told(version: AgentVersion) -> JsonObject:
    return {
        "version": version.version,
        "at": version.at,
        "kind": version.kind,
        "changed_by": version.changed_by,
        "changed": sorted(version.changes or {}),
        "rolled_back_to": version.rolled_back_to,
        "reason": version.reason,
    }


def _what(version: AgentVersion) -> str:
    if version.kind == "created":
        return "created"
    fields = ", ".join(sorted(version.changes or {}))
    return fields if version.rolled_back_to is None else f"rolled back to {version.rolled_back_to}: {fields}"


def _line(change: Change) -> Text:
    mark, style = _STYLES[change.kind]
    text = Text(f"{mark} ", style=style)
    text.append(change.field, style=f"bold {style}")
    text.append(": ")
    if change.kind != "added":
        text.append(_value(change.old), style="red")
    if change.kind == "changed":
        text.append(" → ")
    if change.kind != "removed":
        text.append(_value(change.new), style="green")
    return text


def _value(value: Json) -> str:
    flat = " ".join(value.split()) if isinstance(value, str) else str(value)
    return flat if len(flat) <= _CELL_CHARS else flat[: _CELL_CHARS - 1] + "…"
