"""`dramac hooks`: addresses at which other systems wake an agent."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated

import typer

from infra.cli.common import JsonFlag, err, out, print_json, read_input, run, table
from infra.cli.tables import open_tables
from infra.hooks.signatures import Scheme, key_of, new_secret, signed_headers
from infra.hooks.store import Hook, HookStore
from infra.secrets import Sealer, sealer_of
from infra.settings import Settings
from projections.db import Pool
from projections.queries.agents import get_agent
from schemas.errors import ConfigurationError, RefusedError, UnavailableError
from schemas.ids import random_id
from schemas.message import JsonObject

app = typer.Typer(no_args_is_help=True)

PER_MINUTE = 600
DAY_HOURS = 24.0
SEND_S = 30.0
ANSWER_CHARS = 500  # of an answer that is shown to a person

HookRef = Annotated[str, typer.Argument(metavar="HOOK", help="The hook's id, or a beginning of it.")]
SecretFrom = Annotated[
    str | None,
    typer.Option("--secret-from", metavar="FILE", help="The secret that the sender gave you; - for standard input."),
]


@app.command("create")
def create(
    agent: Annotated[str, typer.Argument(help="The agent's slug or id.")],
    name: Annotated[str, typer.Option("--name", help="What it is for, as lists show it.")] = "",
    scheme: Annotated[Scheme, typer.Option("--scheme", help="How the sender signs.")] = "standard",
    secret_from: SecretFrom = None,
    per_minute: Annotated[
        int, typer.Option("--per-minute", min=1, max=60_000, help="Deliveries taken a minute.")
    ] = PER_MINUTE,
    as_json: JsonFlag = False,
) -> None:
    """Make an address that wakes an agent. Its secret is shown now, and never again."""

    async def work(settings: Settings, store: HookStore, pool: Pool) -> None:
        sealer = sealer_of(settings)
        secret = _secret(scheme, secret_from)
        found = await get_agent(pool, settings.site_id, agent)
        if found.deleted_at is not None:
            raise RefusedError(f"the agent {agent!r} was deleted: apply it again first", reason="deleted")
        hook = await store.create(
            sealer,
            secret,
            site_id=settings.site_id,
            agent_id=found.id,
            agent_slug=found.slug,
            name=(name or f"{found.slug} by {scheme}")[:200],
            scheme=scheme,
            per_minute=per_minute,
            user=settings.user,
        )
        if "webhook" not in found.triggers:
            err().print(f"note: {found.slug} does not listen yet: add 'webhook' to its triggers", style="yellow")
        _show_new(settings, hook, None if secret_from else secret, as_json)

    _with_store(work)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the site's hooks."""

    async def work(settings: Settings, store: HookStore, _pool: Pool) -> None:
        hooks = await store.list(settings.site_id)
        if as_json:
            print_json([_told(hook) for hook in hooks])
            return
        shown = table("id", "name", "agent", "scheme", "enabled", "a minute", "created")
        for hook in hooks:
            enabled = "yes" if hook.is_enabled else "no"
            cells = (hook.id, hook.name, hook.agent_slug, hook.scheme, enabled, str(hook.per_minute))
            shown.add_row(*(cell.replace("[", r"\[") for cell in cells), f"{hook.created_at:%Y-%m-%d %H:%M:%S}")
        out().print(shown if hooks else "no hooks yet: dramac hooks create AGENT")

    _with_store(work)


@app.command("rotate")
def rotate(
    hook: HookRef,
    grace: Annotated[
        float, typer.Option("--grace", min=0, max=24 * 30, help="Hours for which the old secret stays valid.")
    ] = DAY_HOURS,
    secret_from: SecretFrom = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a hook a new secret; deliveries signed with the old one are taken for some hours more."""

    async def work(settings: Settings, store: HookStore, _pool: Pool) -> None:
        sealer = sealer_of(settings)
        found = await store.get(settings.site_id, hook)
        secret = _secret(found.scheme, secret_from)
        await store.rotate(sealer, found, secret, timedelta(hours=grace))
        _show_new(settings, found, None if secret_from else secret, as_json)

    _with_store(work)


@app.command("disable")
def disable(hook: HookRef, as_json: JsonFlag = False) -> None:
    """Answer a hook's deliveries as if there were no such hook."""
    _change(hook, lambda store, found: store.enable(found, False), "disabled", as_json)


@app.command("enable")
def enable(hook: HookRef, as_json: JsonFlag = False) -> None:
    """Take a hook's deliveries again."""
    _change(hook, lambda store, found: store.enable(found, True), "enabled", as_json)


@app.command("delete")
def delete(hook: HookRef, as_json: JsonFlag = False) -> None:
    """Delete a hook and its secrets; the runs that it started stay."""
    _change(hook, lambda store, found: store.delete(found), "deleted", as_json)


@app.command("reseal")
def reseal(as_json: JsonFlag = False) -> None:
    """Seal all hooks' secrets with the first of DRAMAC_SECRET_KEYS, so that the others can be taken away."""

    async def work(settings: Settings, store: HookStore, _pool: Pool) -> None:
        sealer = sealer_of(settings)
        done = await store.reseal(sealer)
        if as_json:
            print_json({"resealed": done, "key_id": sealer.newest})
        else:
            out().print(f"{done} secrets resealed: all are sealed with {sealer.newest!r}")

    _with_store(work)


@app.command("send")
def send(
    hook: HookRef,
    file: Annotated[str, typer.Argument(help="The payload, JSON; - for standard input.")],
    delivery_id: Annotated[str | None, typer.Option("--id", help="The delivery's id; by default a new one.")] = None,
    event: Annotated[str, typer.Option("--event", help="For --scheme github: the event's type.")] = "ping",
    url: Annotated[str | None, typer.Option("--url", help="Where the API is; by default as the settings say.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign a payload as its sender would, and post it to the hook."""

    async def work(settings: Settings, store: HookStore, _pool: Pool) -> None:
        sealer = sealer_of(settings)
        body = read_input(file)
        if delivery_id is not None and not (delivery_id.isascii() and delivery_id.isprintable()):
            raise ConfigurationError("--id takes visible ASCII characters")
        found = await store.get(settings.site_id, hook)
        base = (url or _url(settings)).rstrip("/")
        answer = await _post(base, found, await _newest_key(store, sealer, found), body, delivery_id, event)
        if as_json:
            print_json({"url": answer.url, "status": answer.status, "answer": answer.answer})
        elif answer.is_success:
            out().print(f"{answer.status} {answer.answer}", markup=False)
        if not answer.is_success:
            raise RefusedError(f"{answer.status}: {answer.detail}", reason="not_taken")

    _with_store(work)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said."""

    url: str
    status: int
    answer: str
    detail: str

    @property
    def is_success(self) -> bool:
        """Whether the delivery was taken."""
        return 200 <= self.status < 300


async def _post(base: str, hook: Hook, key: bytes, body: bytes, delivery_id: str | None, event: str) -> Answer:
    import httpx2  # needed here alone, and slow to import

    headers = signed_headers(hook.scheme, key, delivery_id or random_id(), int(time.time()), body, event)
    try:
        async with httpx2.AsyncClient(timeout=SEND_S, trust_env=False) as client:
            got = await client.post(
                base + hook.path, content=body, headers={"Content-Type": "application/json", **headers}
            )
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise ConfigurationError(f"{base!r} is no address: {error}") from None
    except httpx2.HTTPError as error:
        told = f"no API answers at {base} ({str(error) or type(error).__name__})"
        raise UnavailableError(f"{told}: start `dramac api`, or name another place with --url") from None
    text = got.text[:ANSWER_CHARS]
    try:
        detail = str(got.json()["detail"])[:ANSWER_CHARS]
    except (ValueError, KeyError, TypeError):
        detail = text or "no more was said"
    return Answer(str(got.url), got.status_code, text, detail)


async def _newest_key(store: HookStore, sealer: Sealer, hook: Hook) -> bytes:
    valid = await store.secrets(sealer, hook)
    if not valid:
        raise RefusedError(f"the hook has no valid secret: dramac hooks rotate {hook.id}", reason="no_secret")
    return key_of(hook.scheme, valid[0])


def _with_store(work: Callable[[Settings, HookStore, Pool], Awaitable[None]]) -> None:
    async def opened(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            store = HookStore(pool)
            await store.open()
            await work(settings, store, pool)

    run(opened)


def _change(ref: str, change: Callable[[HookStore, Hook], Awaitable[None]], done: str, as_json: bool) -> None:
    async def work(settings: Settings, store: HookStore, _pool: Pool) -> None:
        hook = await store.get(settings.site_id, ref)
        await change(store, hook)
        if as_json:
            print_json({"id": hook.id, "done": done})
        else:
            out().print(f"{hook.id}: {done}")

    _with_store(work)


def _show_new(settings: Settings, hook: Hook, secret: str | None, as_json: bool) -> None:
    if as_json:
        print_json({**_told(hook), "url": _url(settings) + hook.path, "secret": secret})
        return
    console = out()
    console.print(f"url     {_url(settings)}{hook.path}", markup=False)
    if secret is None:
        console.print("secret  the one you gave")
    else:
        console.print(f"secret  {secret}", markup=False)
        console.print("Give both to the sender now: the secret is not shown again.", style="dim")


def _told(hook: Hook) -> JsonObject:
    return {**asdict(hook), "created_at": hook.created_at.isoformat(), "path": hook.path}


def _url(settings: Settings) -> str:
    host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
    return f"http://{host}:{settings.api_port}"


def _secret(scheme: Scheme, secret_from: str | None) -> str:
    """Return a new secret, or the given one, checked."""
    if secret_from is None:
        return new_secret(scheme)
    try:
        secret = read_input(secret_from).decode("ascii").strip()
        key_of(scheme, secret)
    except UnicodeDecodeError:
        raise ConfigurationError("a secret is ASCII text, this one is not") from None
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return secret
