"""The official JSON Schema 2020-12 suite, through the validator of tool arguments."""

import json
from pathlib import Path

import pytest

from processors.runtime.offline import offline
from processors.tools.validation import validator_for
from schemas.catalogue import ToolDefinition
from schemas.errors import ConfigurationError
from schemas.message import Json, JsonObject

SUITE = Path(__file__).parents[3] / "shared" / "data" / "jsonschema_2020_12"
FILES = sorted(SUITE.glob("*.json"))

# What is left out: file, schema (`*`: all of the file), why. An entry that is no longer needed fails the test.
FETCHES = "it refers to a schema elsewhere, and nothing is ever fetched: such a tool is refused when it is registered"
OWN_DIALECT = "its $schema is a dialect of its own that would have to be fetched: tools' parameters are always 2020-12"
STRICT_FORMATS = "formats are checked, which the standard allows: a model's mistake is better told than passed on"

REFUSED: dict[tuple[str, str], str] = {
    ("dynamicRef.json", "strict-tree schema, guards against misspelled properties"): FETCHES,
    ("dynamicRef.json", "tests for implementation dynamic anchor and reference link"): FETCHES,
    ("dynamicRef.json", "$ref and $dynamicAnchor are independent of order - $defs first"): FETCHES,
    ("dynamicRef.json", "$ref and $dynamicAnchor are independent of order - $ref first"): FETCHES,
    ("dynamicRef.json", "$ref to $dynamicRef finds detached $dynamicAnchor"): FETCHES,
    ("refRemote.json", "*"): FETCHES,
}
OTHERWISE: dict[tuple[str, str, str], str] = {
    (
        "vocabulary.json",
        "schema that uses custom metaschema with with no validation vocabulary",
        "no validation: invalid number, but it still validates",
    ): OWN_DIALECT,
    ("format.json", "*", "invalid * string is only an annotation by default"): STRICT_FORMATS,
}


def tool(schema: Json) -> ToolDefinition:
    parameters: JsonObject = schema if isinstance(schema, dict) else {"allOf": [schema]}
    return ToolDefinition(
        name="probe", display_name="", description="", category="", parameters=parameters, handler_type="internal"
    )


def why_refused(file: str, group: JsonObject) -> str | None:
    return REFUSED.get((file, group["description"])) or REFUSED.get((file, "*"))


def why_otherwise(file: str, group: JsonObject, test: JsonObject) -> str | None:
    exact = OTHERWISE.get((file, group["description"], test["description"]))
    anyhow = test["description"].replace(group["description"].removesuffix(" format"), "*")
    return exact or OTHERWISE.get((file, "*", anyhow))


@pytest.mark.skipif(not FILES, reason=f"{SUITE} is not here")
def test_the_suite_is_whole() -> None:
    assert len(FILES) == 46
    assert {file for file, *_ in (*REFUSED, *OTHERWISE)} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_arguments_are_judged_as_the_standard_says_but_for_what_is_named(path: Path) -> None:
    groups = json.loads(path.read_text(encoding="utf-8"))
    wrong: list[str] = []
    stale = {key for key in REFUSED if key[0] == path.name}
    late = {key for key in OTHERWISE if key[0] == path.name}
    for group in groups:
        if why_refused(path.name, group):
            with offline(), pytest.raises(ConfigurationError, match="not a usable JSON Schema"):
                validator_for(tool(group["schema"]))
            stale -= {(path.name, group["description"]), (path.name, "*")}
            continue
        with offline():
            check = validator_for(tool(group["schema"]))
            for test in group["tests"]:
                said = check(test["data"])
                if why_otherwise(path.name, group, test):
                    assert (said is None) is not test["valid"], f"stale: {group['description']}: {test['description']}"
                    late = {key for key in late if why_otherwise(path.name, group, test) != OTHERWISE[key]}
                elif (said is None) is not test["valid"]:
                    wrong.append(f"{group['description']}: {test['description']}: {said}")
    assert wrong == []
    assert (stale, late) == (set(), set()), "these entries are no longer needed"
