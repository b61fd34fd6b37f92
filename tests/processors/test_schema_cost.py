"""Schemas and arguments that would keep whoever decides busy for hours."""

import time

import pytest

from processors.tools.registry import BUILTIN
from processors.tools.schema_cost import MOST, SchemaCost, Size, measure
from processors.tools.validation import CHECK_STEPS, TELL_FAULTS, TOO_COSTLY, UNREADABLE, UNTOLD, validator_for
from schemas.catalogue import ToolDefinition
from schemas.errors import ConfigurationError
from schemas.message import Json, JsonObject

SOON_S = 5.0  # without a limit each of these takes more than a minute, most of them years
ARGUMENTS = Size(values=2_000, characters=64 * 1024, levels=4)


def tool(parameters: JsonObject) -> ToolDefinition:
    return ToolDefinition(
        name="probe", display_name="", description="", category="", parameters=parameters, handler_type="external"
    )


def problem(parameters: JsonObject, arguments: JsonObject) -> str | None:
    check = validator_for(tool(parameters))
    begun_s = time.perf_counter()
    said = check(arguments)
    assert time.perf_counter() - begun_s < SOON_S
    return said


def doubling(times: int, word: str = "anyOf", by: str = "$ref") -> JsonObject:
    """Return a short schema each of whose parts refers twice to the next one."""
    name = "#/$defs/d{}" if by == "$ref" else "#d{}"
    parts: JsonObject = {
        f"d{n}": {"$dynamicAnchor": f"d{n}", word: [{by: name.format(n + 1)}, {by: name.format(n + 1)}]}
        for n in range(times)
    }
    parts[f"d{times}"] = {"$dynamicAnchor": f"d{times}", "type": "string"}
    return {"type": "object", "properties": {"a": {by: name.format(0)}}, "$defs": parts}


def filters() -> JsonObject:
    """Return an honest schema of a tree of conditions, which refers to itself in two ways at every level."""
    joined: list[Json] = [
        {
            "type": "object",
            "properties": {"op": {"const": op}, "of": {"type": "array", "items": {"$ref": "#/$defs/filter"}}},
            "required": ["op", "of"],
        }
        for op in ("and", "or")
    ]
    single: Json = {"type": "object", "properties": {"field": {"type": "string"}}, "required": ["field"]}
    return {
        "type": "object",
        "properties": {"filter": {"$ref": "#/$defs/filter"}},
        "$defs": {"filter": {"oneOf": [*joined, single]}},
    }


def tree(levels: int, leaf: Json) -> JsonObject:
    for _ in range(levels):
        leaf = {"op": "or", "of": [leaf]}
    return {"filter": leaf}


@pytest.mark.parametrize("word", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("by", ["$ref", "$dynamicRef"])
def test_a_short_schema_that_unfolds_without_end_is_refused(word: str, by: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'probe'.*far too long"):
        validator_for(tool(doubling(40, word, by)))


def test_a_schema_that_hides_it_behind_a_property_of_that_name_is_refused() -> None:
    hidden = doubling(40)
    hidden["properties"] = {"$defs": hidden["properties"]["a"]}
    with pytest.raises(ConfigurationError, match="far too long"):
        validator_for(tool(hidden))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "description": "x" * 300_000},
        {"type": "object", "enum": [f"value {n}" for n in range(30_000)]},
    ],
)
def test_a_schema_that_is_too_large_is_refused(schema: JsonObject) -> None:
    with pytest.raises(ConfigurationError, match="256 KiB"):
        validator_for(tool(schema))


@pytest.mark.parametrize("levels", [120, 300])
def test_a_schema_nested_too_deeply_is_refused_in_words(levels: int) -> None:
    schema: JsonObject = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(ConfigurationError, match=r"levels|deeply"):
        validator_for(tool(schema))


def test_a_chain_of_references_is_as_long_as_it_may_be() -> None:
    parts: JsonObject = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(2_000)}
    parts["d2000"] = {"type": "string"}
    assert SchemaCost({"$ref": "#/$defs/d0", "$defs": parts}).places(0) == MOST
    short: JsonObject = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(50)}
    short["d50"] = {"type": "string"}
    said = problem({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": short}, {"a": 1})
    assert said == "The arguments don't fit: a must be string."


def linked(count: int) -> JsonObject:
    """Return a schema of many with names of their own, each of which refers to the next one."""
    parts: JsonObject = {
        f"d{n}": {"$id": f"urn:x:{n}", "properties": {"a": {"$ref": f"urn:x:{(n + 1) % count}"}}} for n in range(count)
    }
    return {"type": "object", "$ref": "urn:x:0", "$defs": parts}


def wide(count: int) -> JsonObject:
    """Return a schema that has many parts at each of any number of levels."""
    return {"type": "object", "properties": {"a": {"$ref": "#"}, **{f"p{n}": {} for n in range(count)}}}


def anchored(count: int) -> JsonObject:
    """Return a schema with many anchors of one name."""
    parts: JsonObject = {f"d{n}": {"$id": f"urn:x:{n}", "$dynamicAnchor": "same"} for n in range(count)}
    return {"type": "object", "allOf": [{"$dynamicRef": "#same"}] * count, "$defs": parts}


@pytest.mark.parametrize("schema", [linked(800), linked(3_000), anchored(1_500)])
def test_working_the_cost_out_is_bounded_itself(schema: JsonObject) -> None:
    begun_s = time.perf_counter()
    with pytest.raises(ConfigurationError, match="more than 16 parts"):
        validator_for(tool(schema))
    assert time.perf_counter() - begun_s < SOON_S


def test_a_cost_is_the_same_whatever_was_asked_before() -> None:
    nested: JsonObject = {}
    for _ in range(90):
        nested = {"a": nested}
    assert problem(wide(5_000), nested) == TOO_COSTLY
    first, second = SchemaCost(wide(1_000)), SchemaCost(wide(1_000))
    depths = range(0, 100, 25)
    assert [first.places(n) for n in depths] == [second.places(n) for n in reversed(depths)][::-1]
    assert first.places(75) == MOST


def test_what_is_wrong_in_an_honest_schema_that_refers_to_itself_is_told() -> None:
    assert problem(filters(), tree(3, {"field": "status"})) is None
    said = problem(filters(), tree(1, {"field": 7}))
    assert said is not None
    assert said.startswith("The arguments don't fit: filter")


@pytest.mark.parametrize(("levels", "said"), [(9, UNTOLD), (30, TOO_COSTLY), (45, TOO_COSTLY), (60, UNREADABLE)])
def test_arguments_that_make_an_honest_schema_costly_are_refused_soon(levels: int, said: str) -> None:
    assert problem(filters(), tree(levels, {"field": 7})) == said


@pytest.mark.parametrize(
    ("items", "value", "count"),
    [
        ({"enum": [f"v{n}" for n in range(2_000)]}, 1, 8_000),
        ({"enum": ["x" * 100_000]}, 1, 8_000),
        ({"anyOf": [{"const": f"v{n}"} for n in range(2_000)]}, 1, 8_000),
        ({"type": "string", "maxLength": 3, "minLength": 20, "pattern": "b", "format": "uuid"}, "aaaaaa", 8_000),
    ],
)
def test_many_faults_are_counted_before_they_are_told(items: JsonObject, value: Json, count: int) -> None:
    said = problem({"type": "object", "properties": {"a": {"type": "array", "items": items}}}, {"a": [value] * count})
    assert said in (UNTOLD, TOO_COSTLY)


def test_slow_patterns_over_a_long_text_are_refused_soon() -> None:
    slow: list[Json] = [{"pattern": f"[ab]*a[ab]{{{500 + n}}}c"} for n in range(100)]
    said = problem({"type": "object", "properties": {"a": {"allOf": slow}}}, {"a": "ab" * 30_000})
    assert said == TOO_COSTLY


@pytest.mark.parametrize("checked", BUILTIN, ids=lambda checked: checked.name)
def test_no_built_in_tool_comes_near_the_limits(checked: ToolDefinition) -> None:
    cost = SchemaCost(checked.parameters)
    assert cost.steps(ARGUMENTS) < CHECK_STEPS // 10
    assert cost.faults(Size(values=200, characters=64 * 1024, levels=4)) <= TELL_FAULTS


def test_a_size_counts_values_texts_and_levels() -> None:
    assert measure({"ab": ["cd", {"e": None}]}) == Size(values=5, characters=5, levels=3)
    assert measure({}) == Size(1, 0, 0)
