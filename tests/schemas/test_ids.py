"""Ids: the same on every replay, ordered by time, and never an id that somebody else made up."""

import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ids import (
    CallId,
    CommandId,
    ExecutionId,
    SiteId,
    agent_id_of,
    approval_id_of,
    call_id_of,
    event_id_of,
    execution_id_of,
    named_id,
    parse_agent_id,
    parse_site_id,
    random_id,
    timed_id,
)

AT_MS = 1_769_247_000_000
SITE = SiteId("0f8fad5b-d9cb-469f-a165-70867728950e")
RUN = ExecutionId("019bef56-0000-8000-8000-000000000001")

quick = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def test_the_ids_of_this_release_are_those_of_every_release() -> None:
    agent = agent_id_of(SITE, "sales")
    assert agent == "93e14f72-899b-84d0-aac4-162656a06cf9"
    assert execution_id_of(AT_MS, agent, "/crm", "1") == "019bef56-c5c0-81d4-808a-376d3767565c"
    assert call_id_of(AT_MS, RUN, 1, 0) == "019bef56-c5c0-890a-94e0-bed57715eae4"
    assert approval_id_of(AT_MS, CallId(RUN)) == "019bef56-c5c0-81c6-98dd-c471e48bab53"
    assert event_id_of(AT_MS, CommandId(RUN), 7, 0) == "019bef56-c5c0-8541-bef9-c463e1890000"


@quick
@given(st.integers(0, 2**48 - 1), st.lists(st.text() | st.binary() | st.integers(), max_size=3))
def test_an_id_is_a_uuid_of_version_8(at_ms: int, names: list[str | bytes | int]) -> None:
    made = uuid.UUID(timed_id(at_ms, *names))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert made.int >> 80 == at_ms


@quick
@given(st.integers(0, 2**48 - 2))
def test_ids_sort_by_their_time(at_ms: int) -> None:
    assert timed_id(at_ms, "b") < timed_id(at_ms + 1, "a")


@pytest.mark.parametrize(
    ("one", "other"), [(("ab", "c"), ("a", "bc")), (("a", "b"), ("ab",)), (("",), ()), ((1,), (11,)), (("a",), ("A",))]
)
def test_an_id_knows_where_a_name_ends(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert timed_id(AT_MS, *one) != timed_id(AT_MS, *other)


def test_every_part_of_a_name_counts() -> None:
    ids = {
        call_id_of(AT_MS, RUN, 1, 0),
        call_id_of(AT_MS, RUN, 1, 1),
        call_id_of(AT_MS, RUN, 2, 0),
        call_id_of(AT_MS + 1, RUN, 1, 0),
        call_id_of(AT_MS, ExecutionId(SITE), 1, 0),
    }
    assert len(ids) == 5
    assert agent_id_of(SITE, "sales") != agent_id_of(SITE, "support")
    assert agent_id_of(SITE, "sales") != agent_id_of(SiteId(RUN), "sales")


def test_a_thing_without_a_time_is_named_by_its_name_alone() -> None:
    assert named_id("agent", "a") == named_id("agent", "a")
    assert uuid.UUID(named_id("agent", "a")).version == 8


def test_random_ids_differ() -> None:
    assert len({random_id() for _ in range(100)}) == 100


def test_an_id_from_outside_is_read_in_lower_case() -> None:
    assert parse_site_id(SITE.upper()) == SITE
    assert str(parse_agent_id(SITE.upper())) == SITE


@pytest.mark.parametrize(
    "text", ["", "sales", "0f8fad5bd9cb469fa16570867728950e", f" {SITE}", f"{SITE}\n", f"{{{SITE}}}"]
)
def test_what_is_no_uuid_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("is not a UUID such as")):
        parse_agent_id(text)
