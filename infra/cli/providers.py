"""`dramac providers`: a site's own model providers. A key comes by prompt, file or variable, never by argument."""

import getpass
import os
import sys
import time
from typing import Annotated, Any

import typer

from infra.cli.common import JsonFlag, out, print_json, read_input, table
from infra.cli.tables import run_with_store
from infra.models.addresses import Api
from infra.models.endpoints import allowed_endpoints
from infra.models.opening import open_models
from infra.models.recorded import PROVIDER as RECORDED
from infra.models.scripted import PROVIDER as SCRIPTED
from infra.models.sites import SiteModels
from infra.models.store import ProviderStore, SiteProvider
from infra.secrets import sealer_of
from infra.settings import Settings
from processors.models.port import ModelRequest
from schemas.chat import ChatMessage
from schemas.errors import ConfigurationError, RefusedError
from schemas.ids import ExecutionId, agent_id_of, random_id
from schemas.message import JsonObject

app = typer.Typer(no_args_is_help=True)

KEY_CHARS = 4_096
NO_KEY: tuple[Api, ...] = ("ollama", "ollama-generate")

Name = Annotated[str, typer.Argument(help="The name by which agents call it in llm_provider.")]


@app.command("set")
def set_(
    name: Name,
    api: Annotated[Api, typer.Option("--api", help="The API that it speaks.")],
    url: Annotated[str | None, typer.Option("--url", help="Where it is; by default the API's own address.")] = None,
    key_from: Annotated[
        str | None, typer.Option("--key-from", metavar="FILE", help="The key's file; - for standard input.")
    ] = None,
    key_env: Annotated[str | None, typer.Option("--key-env", metavar="NAME", help="The variable with the key.")] = None,
    without_key: Annotated[bool, typer.Option("--without-key", help="It wants no key.")] = False,
    tools: Annotated[bool, typer.Option("--tools/--no-tools", help="Whether its models have tool calls.")] = True,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Questions a minute, at most.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Tokens a minute, at most.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Give the site a provider of its own, in place of any of that name. Its key is sealed and never shown."""

    async def work(settings: Settings, store: ProviderStore) -> None:
        if not name or len(name) > 50 or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ConfigurationError(f"{name!r:.60} is no name: write letters, digits, '.', '-' and '_', at most 50")
        if name in (SCRIPTED, RECORDED):
            raise ConfigurationError(f"{name!r} is the {name} model: choose another name")
        key = "" if without_key else _key(key_from, key_env, is_needed=api not in NO_KEY)
        given = SiteProvider(
            settings.site_id,
            name,
            api,
            url.rstrip("/") if url is not None else None,
            tools,
            requests_per_minute,
            tokens_per_minute,
            None,
            settings.user,
            None,
        )
        await store.set(sealer_of(settings) if key else None, given, key, allowed_endpoints(settings))
        if as_json:
            print_json({"name": name, "api": api, "url": given.url, "has_key": bool(key)})
        else:
            out().print(
                f"{name}: set{' with a key' if key else ' without a key'}; try it: dramac providers test {name}"
            )

    run_with_store(ProviderStore, work)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List who serves the site's models: its own providers, and the platform's where it has none of that name."""

    async def work(settings: Settings, store: ProviderStore) -> None:
        own = await store.list(settings.site_id)
        rows = [_told(each) for each in own]
        taken = {each.name for each in own}
        for name, address in settings.providers.items():
            if name not in taken:
                rows.append(
                    {
                        "name": name,
                        "of": "platform",
                        "api": address.api,
                        "url": str(address.url) if address.url is not None else None,
                        "has_key": address.key is not None,
                        "sealed_with": None,
                        "requests_per_minute": address.requests_per_minute,
                        "tokens_per_minute": address.tokens_per_minute,
                    }
                )
        if as_json:
            print_json(rows)
            return
        shown = table("name", "of", "api", "address", "key", "requests a minute", "tokens a minute")
        for row in rows:
            sealed = f"sealed with {row['sealed_with']}" if row["sealed_with"] else "yes" if row["has_key"] else "none"
            limits = ("" if row[f"{what}_per_minute"] is None else str(row[f"{what}_per_minute"]) for what in _LIMITS)
            shown.add_row(row["name"], row["of"], row["api"], row["url"] or "the API's own", sealed, *limits)
        out().print(shown if rows else "no providers yet: dramac providers set openai --api openai")

    run_with_store(ProviderStore, work)


@app.command("test")
def try_(
    name: Name,
    model: Annotated[str, typer.Option("--model", help="Which of its models is asked.")],
    as_json: JsonFlag = False,
) -> None:
    """Ask a model for one word, as a run of this site would. It costs a few tokens."""

    async def work(settings: Settings, store: ProviderStore) -> None:
        async with open_models(settings.providers, settings.scripts) as platform:
            models = SiteModels(
                platform, settings.providers, store, lambda: sealer_of(settings), allowed_endpoints(settings)
            )
            begun_s = time.perf_counter()
            try:
                reply = await models.complete(_question(settings, name, model))
            finally:
                await models.aclose()
        told: JsonObject = {
            "name": name,
            "model": reply.answered_by or reply.model,
            "answer": reply.text[:80],
            "latency_ms": int((time.perf_counter() - begun_s) * 1000),
            "usage": reply.usage.model_dump(),
        }
        if as_json:
            print_json(told)
        else:
            used = f"{reply.usage.input_tokens}+{reply.usage.output_tokens} tokens"
            out().print(f"{name} answers ({told['model']}, {told['latency_ms']} ms, {used})", markup=False)

    run_with_store(ProviderStore, work)


@app.command("remove")
def remove(name: Name, as_json: JsonFlag = False) -> None:
    """Delete a provider of the site, and its key; the platform's of that name serves it then."""

    async def work(settings: Settings, store: ProviderStore) -> None:
        await store.remove(settings.site_id, name)
        if as_json:
            print_json({"name": name, "done": "removed"})
        else:
            out().print(f"{name}: removed")

    run_with_store(ProviderStore, work)


@app.command("reseal")
def reseal(as_json: JsonFlag = False) -> None:
    """Seal all sites' keys with the first of DRAMAC_SECRET_KEYS, so that the others can be taken away."""

    async def work(settings: Settings, store: ProviderStore) -> None:
        sealer = sealer_of(settings)
        done = await store.reseal(sealer)
        if as_json:
            print_json({"resealed": done, "key_id": sealer.newest})
        else:
            out().print(f"{done} keys resealed: all are sealed with {sealer.newest!r}")

    run_with_store(ProviderStore, work)


_LIMITS = ("requests", "tokens")


def _told(provider: SiteProvider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "of": "site",
        "api": provider.api,
        "url": provider.url,
        "has_key": provider.sealed is not None,
        "sealed_with": provider.sealed.key_id if provider.sealed is not None else None,
        "requests_per_minute": provider.requests_per_minute,
        "tokens_per_minute": provider.tokens_per_minute,
    }


def _question(settings: Settings, name: str, model: str) -> ModelRequest:
    return ModelRequest(
        settings.site_id,
        agent_id_of(settings.site_id, "providers-test"),
        ExecutionId(random_id()),
        1,
        name,
        model,
        (ChatMessage(role="user", content="Answer with the word: ready"),),
        temperature=None,
        max_tokens=16,
    )


def _key(file: str | None, variable: str | None, *, is_needed: bool) -> str:
    """Return the key, from wherever it is; never an argument, which everybody on the machine can read."""
    if file is not None and variable is not None:
        raise ConfigurationError("the key comes from one place: --key-from or --key-env")
    if variable is not None:
        key = os.environ.get(variable, "")
    elif file is not None:
        key = _read(file)
    elif not is_needed:
        return ""
    elif sys.stdin.isatty():
        key = getpass.getpass("key (it is not shown): ")
    else:
        raise ConfigurationError("say where the key is: --key-from FILE, --key-from - or --key-env NAME")
    key = key.strip()
    if not key:
        raise RefusedError("the key is empty: nothing was changed", reason="no_key")
    if not (key.isascii() and key.isprintable() and " " not in key) or len(key) > KEY_CHARS:
        raise ConfigurationError(f"a key is one line of at most {KEY_CHARS} visible ASCII characters, and this is not")
    return key


def _read(file: str) -> str:
    try:
        return read_input(file).decode("ascii")
    except UnicodeDecodeError:
        raise ConfigurationError("a key is ASCII text, and this is not") from None
