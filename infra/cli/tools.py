"""`dramac tools`: what agents may call, and the tools of a site's own."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from infra.cli import mcp
from infra.cli.common import JsonFlag, out, print_json, table
from infra.cli.secrets import SecretFrom, read_secret
from infra.cli.tables import run_with_store
from infra.mcp.store import McpStore
from infra.secrets import sealer_of
from infra.settings import Settings
from infra.tools.entry_points import installed_tools
from infra.tools.files import read_tools
from infra.tools.hosts import parse_hosts
from infra.tools.store import SiteToolStore, StoredTool
from processors.tools.port import ToolError
from processors.tools.registry import BUILTIN, Registry
from schemas.catalogue import ToolDefinition
from schemas.errors import ConfigurationError
from schemas.message import JsonObject

app = typer.Typer(no_args_is_help=True)
app.add_typer(mcp.app, name="mcp", help="MCP servers: add, list, review, approve, remove.")

ToolName = Annotated[str, typer.Argument(metavar="NAME", help="The tool's name.")]


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="A YAML or JSON file: a tool, or a list of them.")],
    secret_from: SecretFrom = None,
    as_json: JsonFlag = False,
) -> None:
    """Register tools that call an HTTP API, or new versions; runs under way keep the version they began with."""

    async def work(settings: Settings, store: SiteToolStore) -> None:
        tools, hosts = read_tools(file), parse_hosts(settings.tool_hosts)
        secret = read_secret(secret_from) if secret_from is not None else None
        taken = Registry((*BUILTIN, *(each.definition for each in installed_tools())))
        for tool in tools:
            if taken.has(tool.name):
                raise ConfigurationError(f"{tool.name!r} is a tool of the system: give this one another name")
            try:
                url = hosts.check(tool.http.request(dict.fromkeys(tool.http.places, "x"))[0])
            except ToolError as error:
                raise ConfigurationError(f"{tool.name}: {error}") from None
            if tool.http.needs_secret and url.scheme != "https" and not hosts.is_exempt(url):
                raise ConfigurationError(f"{tool.name}: a secret is sent over https only")
        done = []
        for tool in tools:
            mine = secret if tool.http.needs_secret else None
            version, is_new = await store.add(settings.site_id, tool, mine, partial(sealer_of, settings), settings.user)
            done.append({"name": tool.name, "version": version, "new": is_new})
        if as_json:
            print_json(done)
        else:
            for each in done:
                out().print(f"{each['name']}: version {each['version']}{'' if each['new'] else ', unchanged'}")

    run_with_store(SiteToolStore, work)


@app.command("list")
def list_(
    own: Annotated[bool, typer.Option("--own", help="Only the site's own.")] = False, as_json: JsonFlag = False
) -> None:
    """List the tools that agents of the site may be allowed."""

    async def work(settings: Settings, store: SiteToolStore) -> None:
        rows = [("site", tool) for tool in await store.definitions(settings.site_id)]
        rows += [(tool.server, tool.definition) for tool in await McpStore(store.pool).approved(settings.site_id)]
        if not own:
            rows += [("python", each.definition) for each in installed_tools()]
            rows += [("system", tool) for tool in sorted(BUILTIN, key=lambda tool: tool.name)]
        if as_json:
            print_json([{"from": source, **tool.model_dump(mode="json")} for source, tool in rows])
            return
        shown = table("tool", "from", "version", "risk", "repeatable", "what it does")
        for source, tool in rows:
            said = " ".join(tool.description.split())[:80]
            cells = (tool.name, source, tool.version, _risk(tool), "yes" if tool.idempotent else "no", escape(said))
            shown.add_row(*cells)
        out().print(shown if rows else "no tools of the site's own yet: dramac tools add FILE")

    run_with_store(SiteToolStore, work)


@app.command("show")
def show(name: ToolName, as_json: JsonFlag = False) -> None:
    """Show one of the site's own tools; its secret is never shown."""

    async def work(settings: Settings, store: SiteToolStore) -> None:
        found = await store.get(settings.site_id, name)
        if as_json:
            print_json(_told(found))
            return
        console, tool = out(), found.tool.definition(found.version)
        console.print(f"[bold]{tool.name}[/bold] version {tool.version}, by {escape(found.created_by)}")
        console.print(tool.description, markup=False)
        console.print(f"{found.tool.http.method} {found.tool.http.url}", markup=False)
        for header, value in found.tool.http.headers.items():
            console.print(f"{header}: {value}", markup=False)
        console.print(f"risk {_risk(tool)}, {'repeatable' if tool.idempotent else 'never repeated'}")
        print_json(tool.parameters)

    run_with_store(SiteToolStore, work)


@app.command("remove")
def remove(name: ToolName, as_json: JsonFlag = False) -> None:
    """Take a tool away: also runs that see it can't call it any more."""

    async def work(settings: Settings, store: SiteToolStore) -> None:
        await store.remove(settings.site_id, name, settings.user)
        if as_json:
            print_json({"name": name, "done": "removed"})
        else:
            out().print(f"{name}: removed", markup=False)

    run_with_store(SiteToolStore, work)


@app.command("reseal")
def reseal(as_json: JsonFlag = False) -> None:
    """Seal the secrets of all tools and MCP servers with the first of DRAMAC_SECRET_KEYS."""

    async def work(settings: Settings, store: SiteToolStore) -> None:
        sealer = sealer_of(settings)
        done = await store.reseal(sealer) + await McpStore(store.pool).reseal(sealer)
        if as_json:
            print_json({"resealed": done, "key_id": sealer.newest})
        else:
            out().print(f"{done} secrets resealed: all are sealed with {sealer.newest!r}")

    run_with_store(SiteToolStore, work)


def _risk(tool: ToolDefinition) -> str:
    return f"{tool.risk}, dangerous" if tool.is_dangerous else tool.risk


def _told(found: StoredTool) -> JsonObject:
    return {
        **found.tool.model_dump(mode="json"),
        "version": found.version,
        "has_secret": found.sealed is not None,
        "created_by": found.created_by,
        "created_at": found.created_at.isoformat(),
        "definition": found.tool.definition(found.version).model_dump(mode="json"),
    }
