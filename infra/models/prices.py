"""What models cost, and since when: a table that is shipped, and one of one's own which comes before it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.yaml_files import UNREADABLE
from schemas.catalogue import MICROS, Price
from schemas.errors import ConfigurationError

SHIPPED = Path(__file__).with_name("prices.yaml")
MOST_BYTES = 4 * 1024 * 1024

Name = Annotated[str, Field(min_length=1, max_length=200)]
Rate = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False, decimal_places=6)]


class Entry(BaseModel):
    """A line of the table: what a million tokens cost from a day (UTC) on, in whole units of currency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: Name
    model: Name
    valid_from: date
    input: Rate
    cached_input: Rate | None = None
    output: Rate
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")

    def price(self, version: str, model: str) -> Price:
        """Return it as the price of `model`; without a rate of their own, cached tokens cost what others do."""
        cached = self.input if self.cached_input is None else self.cached_input
        return Price(
            provider=self.provider,
            model=model,
            version=f"{version}@{self.valid_from:%Y-%m-%d}",
            currency=self.currency,
            input=int(self.input * MICROS),
            cached_input=int(cached * MICROS),
            output=int(self.output * MICROS),
        )


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")]
    prices: tuple[Entry, ...] = Field(max_length=10_000)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by provider and model, the newest first; each with the version of the file that it is from."""

    entries: Mapping[tuple[str, str], tuple[tuple[str, Entry], ...]]

    def in_force(self, provider: str, model: str, day: date) -> Price | None:
        """Return what a model costs on a day (UTC); None if that is not known."""
        for name in self._names(provider, model):
            for version, entry in self.entries[provider, name]:
                if entry.valid_from <= day:
                    return entry.price(version, model)
        return None

    def listed(self, day: date) -> list[Price]:
        """Return all that is in force on a day, by name; a name that ends in `*` as it stands."""
        found = []
        for (_, model), versions in sorted(self.entries.items()):
            current = next(((version, entry) for version, entry in versions if entry.valid_from <= day), None)
            if current is not None:
                found.append(current[1].price(current[0], model))
        return found

    def _names(self, provider: str, model: str) -> list[str]:
        """Return the names in the table that fit a model, the closest first."""
        exact = [model] if (provider, model) in self.entries else []
        globs = [
            name
            for owner, name in self.entries
            if owner == provider and name.endswith("*") and model.startswith(name[:-1]) and name != model
        ]
        return exact + sorted(globs, key=len, reverse=True)


def load_prices(own: Path | None = None) -> PriceTable:
    """Return the shipped prices, and in their place those of `own` where it says something of the same model.

    Raises:
        ConfigurationError: a file can't be read or used; the message names the line of the table.
    """
    entries: dict[tuple[str, str], list[tuple[str, Entry]]] = {}
    for path in (SHIPPED, *([own] if own is not None else [])):
        file = _read(path)
        fresh: dict[tuple[str, str], list[tuple[str, Entry]]] = {}
        for entry in file.prices:
            fresh.setdefault((entry.provider, entry.model), []).append((file.version, entry))
        _check_days(path, (found for found in fresh.values()))
        entries |= fresh
    newest_first = {
        name: tuple(sorted(found, key=lambda each: each[1].valid_from, reverse=True)) for name, found in entries.items()
    }
    return PriceTable(newest_first)


def _read(path: Path) -> _File:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigurationError(f"{path} is too large for a table of prices")
        told = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 - a SafeLoader that keeps decimals exact
        return _File.model_validate(told)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        raise ConfigurationError(f"{path}: {where or 'the file'}: {first['msg']}") from None
    except UNREADABLE as error:
        raise ConfigurationError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from None


def _check_days(path: Path, models: Iterable[list[tuple[str, Entry]]]) -> None:
    for found in models:
        days = [entry.valid_from for _, entry in found]
        if len(set(days)) < len(days):
            entry = found[0][1]
            raise ConfigurationError(f"{path}: {entry.provider}/{entry.model} has two prices from the same day")


class _Loader(yaml.SafeLoader):
    """Reads numbers as written: 0.075 as a float is not quite that."""


def _exact(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _exact)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _exact)  # a wrong day is told with its line
