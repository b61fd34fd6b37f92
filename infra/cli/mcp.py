"""`dramac tools mcp`: MCP servers, and what a person approved of them."""

import asyncio
import re
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from infra.cli.common import JsonFlag, out, print_json, table
from infra.cli.secrets import SecretFrom, read_secret
from infra.cli.tables import run_with_store
from infra.mcp.frozen import Offer, definition_of, tool_name
from infra.mcp.store import ApprovedTool, McpServer, McpStore
from infra.secrets import sealer_of
from infra.settings import Settings
from infra.tools.hosts import parse_hosts
from infra.tools.http_tool import SECRET, HttpCall
from infra.visible import visible
from processors.tools.port import BusyError, ToolError
from schemas.catalogue import RiskLevel
from schemas.errors import ConfigurationError, NotFoundError, RefusedError, UnavailableError
from schemas.message import JsonObject

app = typer.Typer(no_args_is_help=True)

SHOWN_SHA = 12
LEAST_SHA = 8
REVIEW_S = 60.0

ServerName = Annotated[str, typer.Argument(metavar="SERVER", help="The server's name at this site.")]
_NAME = re.compile(r"[a-z][a-z0-9]{0,19}")


@app.command("add")
def add(
    server: ServerName,
    url: Annotated[str | None, typer.Argument(help="Where it is; left out, a command of DRAMAC_MCP_COMMANDS.")] = None,
    secret_from: SecretFrom = None,
    header: Annotated[
        str, typer.Option("--header", help="The header in which the secret is sent.")
    ] = f"Authorization: Bearer {SECRET}",
    as_json: JsonFlag = False,
) -> None:
    """Register a server. None of its tools is used before it is approved."""

    async def work(settings: Settings, store: McpStore) -> None:
        if _NAME.fullmatch(server) is None:
            raise ConfigurationError(
                "a server's name has small letters and digits, at most 20: its tools' names begin so"
            )
        secret = read_secret(secret_from) if secret_from is not None else None
        if url is None:
            command = settings.mcp_commands.get(server)
            if command is None or not command.serves(settings.site_id):
                raise ConfigurationError(f"DRAMAC_MCP_COMMANDS has no {server!r} for this site: give the server's URL")
            if secret is not None:
                raise ConfigurationError("a command is given its secrets by `env` in DRAMAC_MCP_COMMANDS")
        else:
            _check_url(settings, url, header, has_secret=secret is not None)
        await store.add(
            settings.site_id,
            server,
            url,
            settings.user,
            header=header if secret is not None else None,
            secret=secret,
            sealer=sealer_of(settings) if secret is not None else None,
        )
        _say(
            as_json,
            {"name": server, "done": "added"},
            f"{server}: added; now look at it: dramac tools mcp review {server}",
        )

    run_with_store(McpStore, work)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the site's servers."""

    async def work(settings: Settings, store: McpStore) -> None:
        approved = await store.approved(settings.site_id)
        rows: list[JsonObject] = [
            {
                "name": server.name,
                "url": server.url,
                "has_secret": server.sealed is not None,
                "approved": [tool.definition.name for tool in approved if tool.server == server.name],
                "created_by": server.created_by,
                "created_at": server.created_at.isoformat(),
            }
            for server in await store.servers(settings.site_id)
        ]
        if as_json:
            print_json(rows)
            return
        shown = table("server", "where", "secret", "approved tools")
        for row in rows:
            where = row["url"] or "a command of the settings"
            secret = "yes" if row["has_secret"] else "no"
            shown.add_row(row["name"], escape(where), secret, str(len(row["approved"])))
        out().print(shown if rows else "no MCP servers yet: dramac tools mcp add SERVER URL")

    run_with_store(McpStore, work)


@app.command("review")
def review(server: ServerName, as_json: JsonFlag = False) -> None:
    """Ask a server what it offers, and show what is new, what changed, and what was approved."""

    async def work(settings: Settings, store: McpStore) -> None:
        found = await store.get(settings.site_id, server)
        offers = await _offers(settings, found)
        approved = {tool.tool: tool for tool in await store.approved(settings.site_id, server)}
        rows = [_reviewed(server, offer, approved.get(offer.tool)) for offer in offers]
        gone = sorted(approved.keys() - {offer.tool for offer in offers})
        rows += [{"tool": name, "name": tool_name(server, name), "state": "gone"} for name in gone]
        if as_json:
            print_json(rows)
            return
        for row in rows:
            _print_row(row)
        if any(row["state"] in ("new", "changed") for row in rows):
            out().print(f"approve what you read: dramac tools mcp approve {server} TOOL@SHA256", style="dim")
        elif not rows:
            out().print("the server offers no tools")

    run_with_store(McpStore, work)


@app.command("approve")
def approve(
    server: ServerName,
    tools: Annotated[list[str], typer.Argument(metavar="TOOL@SHA256...", help="As `review` shows them.")],
    risk: Annotated[str, typer.Option("--risk", help="low, medium, high or critical.")] = "high",
    dangerous: Annotated[bool, typer.Option("--dangerous", help="A person approves each call.")] = False,
    idempotent: Annotated[
        bool, typer.Option("--idempotent", help="A call may be repeated: it only reads, or the server knows keys.")
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=300, help="Seconds a call may take.")] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Let agents use tools in the form that was reviewed; whatever a server changes must be approved again."""

    async def work(settings: Settings, store: McpStore) -> None:
        found = await store.get(settings.site_id, server)
        offers = {offer.tool: offer for offer in await _offers(settings, found)}
        chosen = [_chosen(offers, each) for each in tools]
        definitions = [
            definition_of(
                server,
                offer,
                risk=_risk(risk),
                is_dangerous=dangerous,
                idempotent=idempotent,
                timeout_s=timeout_s,
            )
            for offer in chosen
        ]
        for offer, definition in zip(chosen, definitions, strict=True):
            await store.approve(settings.site_id, server, offer, definition, settings.user)
        names = [definition.name for definition in definitions]
        _say(as_json, {"approved": names}, "\n".join(f"{name}: approved" for name in names))

    run_with_store(McpStore, work)


@app.command("remove")
def remove(server: ServerName, as_json: JsonFlag = False) -> None:
    """Remove a server, with all that was approved of it."""

    async def work(settings: Settings, store: McpStore) -> None:
        await store.remove(settings.site_id, server)
        _say(as_json, {"name": server, "done": "removed"}, f"{server}: removed")

    run_with_store(McpStore, work)


async def _offers(settings: Settings, server: McpServer) -> tuple[Offer, ...]:
    from infra.mcp.opening import open_sessions  # slow to import, and needed here alone

    try:
        async with asyncio.timeout(REVIEW_S):
            return await open_sessions(settings).offers(server)
    except ToolError as error:
        raise ConfigurationError(str(error)) from None
    except (BusyError, TimeoutError) as error:
        raise UnavailableError(str(error) or f"{server.name!r} took longer than {REVIEW_S:g} s") from None


def _check_url(settings: Settings, url: str, header: str, *, has_secret: bool) -> None:
    hosts = parse_hosts(settings.tool_hosts)
    try:
        checked = hosts.check(url)
    except ToolError as error:
        raise ConfigurationError(str(error)) from None
    if not has_secret:
        return
    name, colon, value = header.partition(":")
    try:
        HttpCall(url=url, headers={name.strip(): value.strip()})
    except ValueError:
        raise ConfigurationError(f"--header is written as `Name: value`, the value with {SECRET} in it") from None
    if not colon or SECRET not in value:
        raise ConfigurationError(f"--header has {SECRET} where the secret stands")
    if checked.scheme != "https" and not hosts.is_exempt(checked):
        raise ConfigurationError("a secret is sent over https only")


def _chosen(offers: dict[str, Offer], written: str) -> Offer:
    name, _, sha256 = written.rpartition("@")
    offer = offers.get(name)
    if offer is None:
        raise NotFoundError(
            f"the server offers no tool {(name or written)[:80]!r}: write TOOL@SHA256 as `review` shows it"
        )
    if len(sha256) < LEAST_SHA or not offer.sha256.startswith(sha256.lower()):
        told = f"{name!r} is not the tool that was reviewed: it is {offer.sha256[:SHOWN_SHA]} now"
        raise RefusedError(f"{told}; review it again", reason="changed")
    return offer


def _risk(text: str) -> RiskLevel:
    match text:
        case "low" | "medium" | "high" | "critical":
            return text
        case _:
            raise ConfigurationError(f"--risk is low, medium, high or critical, not {text[:40]!r}")


def _reviewed(server: str, offer: Offer, approved: ApprovedTool | None) -> JsonObject:
    state = "new" if approved is None else "approved" if approved.sha256 == offer.sha256 else "changed"
    return {
        "tool": offer.tool,
        "name": tool_name(server, offer.tool),
        "state": state,
        "sha256": offer.sha256,
        "told": offer.told,
        "was": approved.told if approved is not None and state == "changed" else None,
    }


def _print_row(row: JsonObject) -> None:
    console = out()
    style = {"new": "yellow", "changed": "bold red", "approved": "green", "gone": "dim"}[row["state"]]
    sha256 = f"@{row['sha256'][:SHOWN_SHA]}" if "sha256" in row else ""
    console.print(f"[{style}]{row['state']}[/{style}]  {escape(visible(row['tool']))}{sha256}  as {row['name']}")
    if row["state"] not in ("new", "changed"):
        return
    was = row["was"] or {}
    for name, value in row["told"].items():
        if name == "name" or was.get(name) == value:
            continue
        if name in was:
            console.print(f"  {name} was: {visible(_text(was[name]))}", markup=False, style="dim")
        console.print(f"  {name}: {visible(_text(value))}", markup=False)
    for name in was.keys() - row["told"].keys():
        console.print(f"  {name} is gone; it was: {visible(_text(was[name]))}", markup=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _say(as_json: bool, told: JsonObject, words: str) -> None:
    if as_json:
        print_json(told)
    else:
        out().print(words, markup=False)
