"""What runs spend on behalf of others: it counts in the cap of who delegated, and is left to them beforehand."""

from schemas.events import (
    BudgetReserved,
    DelegationFinished,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ToolFailed,
)
from tests.processors.fakes import Turn, new_log, until
from tests.processors.test_delegation import Firm, delegate, working

CAP = 1_000_000


async def told(cap: int | None, *turns: Turn) -> Firm:
    """Return what came of a boss with this cap that says these things."""
    firm = Firm(await new_log(2), {"boss": turns, "ann": ["ann found it"], "bob": ["bob found it"]})
    async with working(firm):
        await firm.hire("boss", max_cost_micros_per_run=cap, max_tokens=100)
        await firm.hire("ann", max_tokens=100)
        await firm.hire("bob", max_tokens=100)
        await firm.wake()
        await until(lambda: firm.the("boss", ExecutionCompleted) or firm.the("boss", ExecutionFailed))
    return firm


async def test_delegated_runs_get_even_shares_of_what_is_left_and_one_is_kept() -> None:
    firm = await told(CAP, (delegate("a", "ann"), delegate("b", "bob")), "Done.")
    shares = [event for event in firm.all("boss", BudgetReserved) if event.call_id is not None]
    assert [share.tokens for share in shares] == [None, None]
    first, second = (share.cost_micros for share in shares)
    assert CAP // 3 - 10_000 < second <= first <= CAP // 3
    for slug, share in (("ann", first), ("bob", second)):
        budget = firm.the(slug, ExecutionStarted).trigger.budget
        assert (budget.tokens, budget.cost_micros) == (None, share)
        assert firm.the(slug, BudgetReserved)
    assert len(firm.all("boss", DelegationFinished)) == 2
    assert firm.the("boss", ExecutionCompleted)


async def test_a_delegated_run_can_not_spend_more_than_it_was_left() -> None:
    need = (await told(CAP, "Done.")).the("boss", BudgetReserved).cost_micros
    firm = await told(need + need // 2, (delegate("a", "ann"),), "Done.")
    assert firm.the("ann", ExecutionFailed).reason == "budget_exceeded"
    assert "the run may spend" in firm.the("boss", ToolFailed).error


async def test_without_a_cap_nothing_is_reserved_for_anybody() -> None:
    firm = await told(None, (delegate("a", "ann"),), "Done.")
    assert firm.all("boss", BudgetReserved) == firm.all("ann", BudgetReserved) == []
    assert firm.the("ann", ExecutionStarted).trigger.budget is None
