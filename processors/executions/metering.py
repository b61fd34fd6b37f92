"""What a reply costs, and replies that are paid for though nobody waits for them any more."""

from typing import Literal

from processors.models.pricing import cost_micros
from schemas.catalogue import Catalogue
from schemas.chat import Usage
from schemas.commands import RecordAttempt, RecordModelFailure, RecordThought
from schemas.events import UsageMetered

NO_CURRENCY = "USD"  # an unpriced model costs nothing, in this currency


def price_of(catalogue: Catalogue, provider: str, model: str, usage: Usage | None) -> tuple[int, str, str | None]:
    """Return what `usage` costs in micro-units, the currency, and the price's version; 0 and None if unpriced."""
    price = catalogue.price(provider, model)
    if price is None:
        return 0, NO_CURRENCY, None
    return cost_micros(price, usage or Usage()), price.currency, price.version


def metered(
    catalogue: Catalogue,
    command: RecordThought | RecordModelFailure | RecordAttempt,
    reason: Literal["second", "late", "internal"],
) -> UsageMetered:
    """Return the event that charges a reply which changes nothing else."""
    usage = command.usage or Usage()
    cost, currency, version = price_of(catalogue, command.provider, command.model, usage)
    return UsageMetered(
        execution_id=command.execution_id,
        step=command.step,
        reply_id=command.reply_id,
        provider=command.provider,
        model=command.model,
        reason=reason,
        usage=usage,
        cost_micros=cost,
        currency=currency,
        price_version=version,
    )
