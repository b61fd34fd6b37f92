from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from processors.models.pricing import cost_micros
from schemas.catalogue import Price
from schemas.chat import Usage

TOKENS = st.integers(min_value=0, max_value=10**9)
RATE = st.integers(min_value=0, max_value=10**9)


def price(*, input: int = 0, cached_input: int = 0, output: int = 0) -> Price:
    return Price(provider="p", model="m", version="1", input=input, cached_input=cached_input, output=output)


def test_a_million_tokens_cost_their_price() -> None:
    rates = price(input=2_500_000, output=10_000_000)
    assert cost_micros(rates, Usage(input_tokens=1_000_000, output_tokens=1_000_000)) == 12_500_000


def test_cached_tokens_are_paid_once_at_their_own_rate() -> None:
    rates = price(input=2_000_000, cached_input=1_000_000)
    assert cost_micros(rates, Usage(input_tokens=100, cached_tokens=40)) == 60 * 2 + 40 * 1


def test_more_cached_tokens_than_input_are_not_paid() -> None:
    rates = price(input=5_000_000, cached_input=1_000_000)
    assert cost_micros(rates, Usage(input_tokens=10, cached_tokens=99)) == 10


def test_reasoning_tokens_are_part_of_the_output() -> None:
    rates = price(output=1_000_000)
    assert cost_micros(rates, Usage(output_tokens=10, reasoning_tokens=7)) == 10


def test_without_a_price_nothing_is_charged() -> None:
    assert cost_micros(None, Usage(input_tokens=1_000, output_tokens=1_000)) == 0


def test_a_half_is_rounded_to_the_even_micro_unit() -> None:
    halves = [cost_micros(price(input=500_000), Usage(input_tokens=tokens)) for tokens in (1, 3, 5, 7)]
    assert halves == [0, 2, 2, 4]


@given(TOKENS, TOKENS, TOKENS, RATE, RATE, RATE)
def test_the_cost_is_the_exact_sum_rounded_once(
    asked: int, cached: int, answered: int, input_rate: int, cached_rate: int, output_rate: int
) -> None:
    rates = price(input=input_rate, cached_input=cached_rate, output=output_rate)
    cost = cost_micros(rates, Usage(input_tokens=asked, cached_tokens=cached, output_tokens=answered))
    known = min(cached, asked)
    exact = Fraction((asked - known) * input_rate + known * cached_rate + answered * output_rate, 1_000_000)
    assert cost == round(exact)
