"""What a reply costs, in integer micro-units of currency."""

from schemas.catalogue import MICROS, Price
from schemas.chat import Usage


def cost_micros(price: Price | None, usage: Usage) -> int:
    """Return the cost of one reply in micro-units; 0 without a price.

    Exact: prices are micro-units for a million tokens, so the sum is an integer of millionths of a micro-unit.
    It is rounded once, at the end, half to even, so that many small replies are neither dearer nor cheaper
    than they should be. Cached tokens are part of the input and paid once, at their own rate; a provider
    that reports more cached than input tokens is not paid for the surplus.
    """
    if price is None:
        return 0
    cached = min(usage.cached_tokens, usage.input_tokens)
    millionths = (
        (usage.input_tokens - cached) * price.input + cached * price.cached_input + usage.output_tokens * price.output
    )
    whole, rest = divmod(millionths, MICROS)
    return whole + (rest * 2 + (whole & 1) > MICROS)
