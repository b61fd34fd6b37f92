"""A memory of what was handled: never shorter than it says, never for ever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.runtime.ledger import HOUR_MS, Ledger, fingerprint


def test_a_fingerprint_knows_where_a_name_ends() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("ab") == fingerprint("ab")
    assert fingerprint("a") < 2**64


def test_a_lone_surrogate_has_a_fingerprint() -> None:
    assert fingerprint("\ud800") != fingerprint("?")


def test_what_was_never_handled_is_not_remembered() -> None:
    assert not Ledger().remembers(1, 0)


def test_what_is_over_when_it_is_told_is_not_remembered_for_long() -> None:
    ledger = Ledger()
    ledger.remember(1, until_ms=0, at_ms=10 * HOUR_MS)
    assert not ledger.remembers(1, 10 * HOUR_MS)
    ledger.remember(2, until_ms=20 * HOUR_MS, at_ms=10 * HOUR_MS)
    assert len(ledger) == 1


def test_a_print_that_is_told_again_is_remembered_until_the_later_time() -> None:
    ledger = Ledger()
    ledger.remember(1, until_ms=HOUR_MS, at_ms=0)
    ledger.remember(1, until_ms=5 * HOUR_MS, at_ms=0)
    ledger.remember(2, until_ms=9 * HOUR_MS, at_ms=3 * HOUR_MS)
    assert ledger.remembers(1, 5 * HOUR_MS)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30 * HOUR_MS), st.integers(0, 5 * HOUR_MS)), max_size=40))
def test_a_print_is_remembered_until_its_time_and_forgotten_within_an_hour(told: list[tuple[int, int, int]]) -> None:
    ledger, at_ms, until = Ledger(), 0, dict[int, int]()
    for print_, kept_ms, later_ms in told:
        at_ms += later_ms
        if not ledger.remembers(print_, at_ms):  # as the deciders do
            ledger.remember(print_, at_ms + kept_ms, at_ms)
            until[print_] = at_ms + kept_ms
        for known, until_ms in until.items():
            if at_ms <= until_ms:
                assert ledger.remembers(known, at_ms)
            elif at_ms > until_ms + HOUR_MS:
                assert not ledger.remembers(known, at_ms)
    ledger.remember(99, at_ms + 100 * HOUR_MS, at_ms + 60 * HOUR_MS)
    assert len(ledger) == 1
