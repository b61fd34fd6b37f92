"""The table of prices: shipped, one's own before it, by day."""

from datetime import date
from pathlib import Path

import pytest

from infra.models.prices import load_prices
from processors.models.pricing import cost_micros
from schemas.chat import Usage
from schemas.errors import ConfigurationError
from tests.infra.cli_runs import dramac

DAY = date(2026, 1, 24)


def own(tmp_path: Path, *lines: str, version: str = "ours-1") -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(f"version: {version}\nprices:\n" + "\n".join(f"  - {{{line}}}" for line in lines) + "\n")
    return path


def test_a_shipped_price_is_the_one_of_the_day() -> None:
    prices = load_prices()
    may, december = prices.in_force("openai", "gpt-4o", date(2024, 6, 1)), prices.in_force("openai", "gpt-4o", DAY)
    assert may is not None
    assert december is not None
    assert (may.output, may.version) == (15_000_000, "shipped-1@2024-05-13")
    assert (december.output, december.version) == (10_000_000, "shipped-1@2024-10-02")
    assert prices.in_force("openai", "gpt-4o", date(2024, 1, 1)) is None


def test_rates_are_exact() -> None:
    price = load_prices().in_force("openai", "gpt-4o-mini", DAY)
    assert price is not None
    assert (price.input, price.cached_input, price.output) == (150_000, 75_000, 600_000)
    assert cost_micros(price, Usage(input_tokens=1_000_000)) == 150_000


def test_the_closest_name_that_fits_counts() -> None:
    prices = load_prices()
    dated = prices.in_force("anthropic", "claude-sonnet-4-20250514", DAY)
    assert dated is not None
    assert (dated.model, dated.output) == ("claude-sonnet-4-20250514", 15_000_000)
    opus = prices.in_force("anthropic", "claude-opus-4-1-20250805", DAY)
    assert opus is not None
    assert opus.output == 75_000_000
    assert prices.in_force("openai", "gpt-99", DAY) is None
    assert prices.in_force("ollama", "whatever", DAY) is not None


def test_ones_own_price_takes_the_place_of_all_shipped_ones_of_the_model(tmp_path: Path) -> None:
    path = own(tmp_path, "provider: openai, model: gpt-4o, valid_from: 2025-01-01, input: 1, output: 2, currency: EUR")
    prices = load_prices(path)
    price = prices.in_force("openai", "gpt-4o", DAY)
    assert price is not None
    assert (price.version, price.currency, price.cached_input) == ("ours-1@2025-01-01", "EUR", 1_000_000)
    assert prices.in_force("openai", "gpt-4o", date(2024, 12, 1)) is None
    assert prices.in_force("openai", "gpt-4.1", DAY) is not None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("provider: openai, model: x, valid_from: 2025-01-01, input: -1, output: 2", "prices[0].input"),
        ("provider: openai, model: x, valid_from: 2025-13-01, input: 1, output: 2", "prices[0].valid_from"),
        ("provider: openai, model: x, valid_from: 2025-01-01, input: 0.0000001, output: 2", "prices[0].input"),
        ("provider: openai, model: x, valid_from: 2025-01-01, input: .nan, output: 2", "prices[0].input"),
        ("provider: openai, model: x, valid_from: 2025-01-01, output: 2", "prices[0].input"),
        ("provider: openai, model: x, valid_from: 2025-01-01, input: 1, outptu: 2", "prices[0].output"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = own(tmp_path, line)
    with pytest.raises(ConfigurationError) as caught:
        load_prices(path)
    assert f"{path}: {said}: " in str(caught.value)


def test_two_prices_of_one_day_are_a_mistake(tmp_path: Path) -> None:
    line = "provider: a, model: x, valid_from: 2025-01-01, input: 1, output: 2"
    with pytest.raises(ConfigurationError, match="a/x has two prices from the same day"):
        load_prices(own(tmp_path, line, line))


def test_people_can_ask_what_has_a_price(tmp_path: Path) -> None:
    listed = dramac({}, "prices", "list", "--provider", "openai", "--json")
    assert {price["model"] for price in listed.json} >= {"gpt-4o", "gpt-4o-mini"}
    assert dramac({}, "prices", "check", "openai/gpt-4o").code == 0
    missing = dramac({}, "prices", "check", "openai/gpt-4o", "acme/own", "--json")
    assert (missing.code, missing.json["acme/own"]) == (1, None)
    assert dramac({}, "prices", "check", "gpt-4o").says_in_one_line("write provider/model")
    path = own(tmp_path, "provider: acme, model: '*', valid_from: 2025-01-01, input: 1, output: 2")
    assert dramac({"DRAMAC_PRICES": str(path)}, "prices", "check", "acme/own").code == 0


@pytest.mark.parametrize(
    "text", ["[" * 3_000, "version: v\nprices: [{input: " + "9" * 5_000 + "}]", "a: !!int x", "a: *b"]
)
def test_what_is_no_yaml_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is no YAML"):
        load_prices(path)
