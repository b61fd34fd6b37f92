"""`dramac prices`: what models cost, and which of them have no price."""

import time
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from infra.cli.common import FAILED, JsonFlag, out, print_json, run, table
from infra.cli.tables import open_tables
from infra.models.prices import PriceTable, load_prices
from infra.settings import Settings
from processors.models.call import models_of
from projections.queries.agents import get_agent, list_agents
from schemas.agents import AgentConfig
from schemas.catalogue import MICROS, Price
from schemas.errors import ConfigurationError
from schemas.message import STORED

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="In force on this day, in UTC.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the prices in force, for a million tokens."""

    async def work(settings: Settings) -> None:
        when = day.date() if day is not None else _today()
        found = [p for p in load_prices(settings.prices).listed(when) if provider in (None, p.provider)]
        if as_json:
            print_json([price.model_dump() for price in found])
            return
        shown = table("provider", "model", "input", "cached", "output", "currency", "version")
        for price in found:
            rates = (_money(rate) for rate in (price.input, price.cached_input, price.output))
            shown.add_row(price.provider, price.model, *rates, price.currency, price.version)
        out().print(shown if found else "no prices")

    run(work)


@app.command("check")
def check(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models, as provider/model; else those of all agents.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the table of prices, and say which models have none: 1 is returned then."""

    async def work(settings: Settings) -> int:
        prices = load_prices(settings.prices)
        wanted = [_named(text) for text in models] if models else await _of_agents(settings)
        found = {name: _of(prices, *name) for name in dict.fromkeys(wanted)}
        if as_json:
            print_json({f"{p}/{m}": None if price is None else price.model_dump() for (p, m), price in found.items()})
        else:
            shown = table("model", "price")
            for (owner, model), price in found.items():
                shown.add_row(f"{owner}/{model}", "none" if price is None else price.version)
            out().print(shown if found else "the table is in order")
        return FAILED if None in found.values() else 0

    run(work)


async def _of_agents(settings: Settings) -> list[tuple[str, str]]:
    async with open_tables(settings) as pool:
        agents = [
            await get_agent(pool, settings.site_id, agent.id)
            for agent in await list_agents(pool, settings.site_id, limit=500)
        ]
    configs = [AgentConfig.model_validate(agent.config, context=STORED) for agent in agents]
    return [(name.provider, name.model) for config in configs for name in models_of(config)]


def _of(prices: PriceTable, provider: str, model: str) -> Price | None:
    return prices.in_force(provider, model, _today())


def _named(text: str) -> tuple[str, str]:
    provider, slash, model = text.partition("/")
    if not (provider and slash and model):
        raise ConfigurationError(f"{text!r} is no model: write provider/model, such as openai/gpt-4o")
    return provider, model


def _today() -> date:
    return datetime.fromtimestamp(time.time(), UTC).date()


def _money(micros: int) -> str:
    return f"{micros / MICROS:.6f}".rstrip("0").rstrip(".")
