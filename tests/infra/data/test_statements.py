"""From a question to a statement: nothing that a caller says becomes part of it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.data.entities import ENTITIES
from infra.data.statements import OPERATORS, aggregate, query
from processors.tools.builtin.data import ENTITIES as NAMED
from processors.tools.port import ToolError
from schemas.message import Json, JsonObject
from tests.naughty import naughty_strings

# All that a statement is made of.
NAMES = {name for entity in ENTITIES.values() for name in (*entity.columns, entity.key, "site_id")}
TABLES = {entity.table for entity in ENTITIES.values()}
WORDS = {
    *("SELECT", "FROM", "WHERE", "AND", "ORDER", "BY", "LIMIT", "GROUP", "DESC", "ASC", "NULLS", "LAST", "IS", "NOT"),
    *("NULL", "DISTINCT", "ANY", "AS", "AT", "TIME", "ZONE", "left", "lower", "strpos", "starts_with", "date_trunc"),
    *("count", "sum", "avg", "min", "max", "date", "timestamptz", "text", "uuid", "bigint", "boolean", "value"),
    "site_id",
}
TOKEN = re.compile(
    r"""\s+|"([a-z_]+)"|'(UTC|day|week|month)'|([a-z]+\.[a-z_]+)|([A-Za-z_]+)|\$\d+|\d+|::|[()\[\],*:]|[<>]=?|="""
)

INJECTIONS = [
    *("x' OR '1'='1", "'; DROP TABLE sandbox.contacts; --", 'id"; SELECT 1; --', "id) FROM sandbox.emails --", "1=1"),
    *("id, (SELECT current_user)", "contacts; DELETE FROM sandbox.notes", "pg_catalog.pg_roles", "sandbox.contacts"),
    *(
        "site_id",
        "custom_fields",
        "body",
        "config",
        "*",
        "count(*)",
        "sum(id)",
        "sum(cost_micros) FROM x --",
        "-",
        "--id",
    ),
    *(
        "month(created_at); --",
        "month(status)",
        "year(created_at)",
        "sum(cost_micros",
        "$1",
        "%",
        "\\",
        "\0",
        "\ud800",
        "",
    ),
]
ANY: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(INJECTIONS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(max_size=20) | st.sampled_from([*INJECTIONS, *NAMES, *ENTITIES])
OPERATOR = st.sampled_from(sorted({name for names in OPERATORS.values() for name in names})) | TEXT
FILTERS = st.dictionaries(TEXT, ANY | st.dictionaries(OPERATOR, ANY, max_size=2), max_size=3)


def check(sql: str, values: list[object]) -> None:
    """Check that a statement is made of the catalogue's words, and has a placeholder for each value."""
    at = 0
    while at < len(sql):
        token = TOKEN.match(sql, at)
        assert token is not None, sql[at:]
        name, _, table, word = token.groups()
        assert name is None or name in NAMES | {"group"}, name
        assert table is None or table in TABLES, table
        assert word is None or word in WORDS, word
        at = token.end()
    assert "WHERE site_id = $1::uuid" in sql
    assert {int(number) for number in re.findall(r"\$(\d+)", sql)} == set(range(1, len(values) + 2))


@given(entity=st.sampled_from(sorted(ENTITIES)) | TEXT, filters=FILTERS, fields=st.lists(TEXT, max_size=3), order=TEXT)
def test_whatever_is_asked_the_statement_is_of_our_words(
    entity: str, filters: JsonObject, fields: list[str], order: str
) -> None:
    arguments = {"entity_type": entity, "filters": filters, "fields": fields, "order_by": order}
    try:
        sql, values, _ = query(ENTITIES, arguments)
    except ToolError:
        return
    check(sql, values)


@given(
    entity=st.sampled_from(sorted(ENTITIES)),
    metric=TEXT | st.sampled_from(["count", "sum(cost_micros)", "count_distinct(id)", "max(created_at)"]),
    group=TEXT | st.sampled_from(["month(created_at)", "day(date)"]) | st.none(),
    span=st.dictionaries(st.sampled_from(["from", "to", "field"]), TEXT | st.just("2026-01-01"), max_size=3),
    filters=FILTERS,
)
def test_whatever_figure_is_asked_the_statement_is_of_our_words(
    entity: str, metric: str, group: str | None, span: JsonObject, filters: JsonObject
) -> None:
    arguments: JsonObject = {"entity_type": entity, "metric": metric, "date_range": span, "filters": filters}
    try:
        sql, values, _ = aggregate(ENTITIES, arguments if group is None else {**arguments, "group_by": group})
    except ToolError:
        return
    check(sql, values)


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_statement_does_not_depend_on_its_values(one: str, other: str) -> None:
    def sql(value: str) -> str:
        filters = {"email": value, "company": {"contains": value, "in": [value]}, "tags": {"contains": value}}
        return query(ENTITIES, {"entity_type": "contacts", "filters": filters})[0]

    assert sql(one) == sql(other)


def test_every_naughty_string_is_bound_as_a_value_and_refused_as_a_name() -> None:
    for text in naughty_strings():
        sql, values, _ = query(ENTITIES, {"entity_type": "contacts", "filters": {"email": text}})
        check(sql, values)
        assert values == [text.replace("\0", "\ufffd")]
        questions: list[JsonObject] = [
            {"entity_type": text},
            {"entity_type": "contacts", "filters": {text: "x"}},
            {"entity_type": "contacts", "filters": {"email": {text: "x"}}},
            {"entity_type": "contacts", "fields": [text]},
        ]
        for question in questions:
            with pytest.raises(ToolError):
                query(ENTITIES, question)
        with pytest.raises(ToolError):
            aggregate(ENTITIES, {"entity_type": "contacts", "metric": text})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"entity_type": "contact"}, "There is no entity 'contact': did you mean contacts?"),
        ({"entity_type": "contacts", "fields": ["mail"]}, "did you mean email? known are company, created_at"),
        ({"entity_type": "contacts", "filters": {"email": {"like": "x"}}}, "known are contains, eq"),
        ({"entity_type": "contacts", "filters": {"email": 7}}, "7 can't be compared with email: it must be a text"),
        ({"entity_type": "contacts", "filters": {"id": "x"}}, "must be a UUID"),
        ({"entity_type": "contacts", "filters": {"created_at": "soon"}}, "write it like 2026-03-01"),
        ({"entity_type": "contacts", "filters": {"created_at": "2026-03-01T09:00:00"}}, "write it like 2026-03-01"),
        ({"entity_type": "contacts", "filters": {"email": {"in": "x"}}}, "must be a list"),
        ({"entity_type": "contacts", "filters": {"email": {"is_null": "x"}}}, "must be true or false"),
        ({"entity_type": "contacts", "filters": {"email": {}}}, "says nothing"),
        ({"entity_type": "contacts", "order_by": "tags"}, "it is a list"),
        ({"entity_type": "contacts", "filters": {"email": "x" * 1_001}}, "at most 1000 characters"),
        ({"entity_type": "executions", "filters": {"cost_micros": True}}, "must be a whole number"),
        ({"entity_type": "executions", "filters": {"cost_micros": 2**63}}, "must be a whole number"),
        ({"entity_type": "emails", "fields": ["body"]}, "There is no field 'body'"),
        ({"entity_type": "contacts", "filters": {"site_id": "x"}}, "There is no field 'site_id'"),
    ],
)
def test_what_can_not_be_asked_is_refused_in_words_that_help(asked: JsonObject, words: str) -> None:
    with pytest.raises(ToolError, match=re.escape(words)):
        query(ENTITIES, asked)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"metric": "median(cost_micros)"}, "use one of count, sum(field)"),
        ({"metric": "sum(status)"}, "use it with one of cost_micros"),
        ({"metric": "count", "group_by": "year(started_at)"}, "day, week or month of a time"),
        ({"metric": "count", "date_range": {"field": "status", "from": "2026-01-01"}}, "status is none"),
        ({"metric": "count", "date_range": {"from": "yesterday"}}, "write it like"),
    ],
)
def test_a_figure_that_can_not_be_asked_for_is_refused_in_words_that_help(more: JsonObject, words: str) -> None:
    with pytest.raises(ToolError, match=re.escape(words)):
        aggregate(ENTITIES, {"entity_type": "executions", **more})


def test_the_tool_names_the_entities_that_there_are() -> None:
    assert tuple(sorted(ENTITIES)) == NAMED
