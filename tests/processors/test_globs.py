import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.tools.globs import matches, matches_any, permits

PATTERN = st.text("ab.*", max_size=12)
NAME = st.text("ab.", max_size=24)


@given(PATTERN, NAME)
def test_a_glob_matches_as_its_regular_expression_does(pattern: str, name: str) -> None:
    oracle = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches(pattern, name) is (re.fullmatch(oracle, name, re.DOTALL) is not None)


@given(st.text(max_size=20).filter(lambda text: "*" not in text), st.text(max_size=20))
def test_without_a_star_only_the_name_itself_matches(pattern: str, name: str) -> None:
    assert matches(pattern, name) is (pattern == name)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("crm_*", "crm_get_contact", True),
        ("crm_*", "crm_", True),
        ("crm_*", "my_crm_get_contact", False),
        ("contact.*", "crm.contact.created", False),
        ("*.contact.*", "crm.contact.created", True),
        ("*", "", True),
        ("a*a", "a", False),  # head and tail may not share a character
        ("a*b*a", "aba", True),
        ("a**b", "ab", True),
        ("CRM_*", "crm_get", False),
        ("c.m", "crm", False),
        ("[c]rm", "crm", False),
        ("(a+)+$", "aaaa", False),
    ],
)
def test_globs_are_anchored_and_know_only_the_star(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


def test_many_stars_against_a_long_name_take_no_time() -> None:
    assert not matches("a*" * 100 + "b", "a" * 50_000)


def test_one_pattern_of_several_is_enough() -> None:
    assert matches_any(("crm_*", "task_*"), "task_create")
    assert not matches_any((), "task_create")


def test_a_denial_wins_over_any_permission() -> None:
    assert permits(("crm_*",), (), "crm_get_contact")
    assert not permits(("*", "crm_get_contact"), ("crm_*",), "crm_get_contact")


def test_what_nobody_allows_is_denied() -> None:
    assert not permits((), (), "crm_get_contact")
