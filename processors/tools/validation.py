"""Checking the arguments of a call against the tool's JSON Schema.

The sentences are our own, not the library's: they go into events, and a replay must find the same bytes after
an upgrade of the library. `pattern` runs on an engine of linear time, and no `$ref` is ever fetched.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from processors.tools.schema_cost import LEVELS, OWN_SCHEMAS, SchemaCost, measure
from schemas.catalogue import ToolDefinition
from schemas.errors import ConfigurationError
from schemas.message import Json, JsonObject

Validator = Callable[[JsonObject], str | None]

COMPILED_SCHEMAS = 1_024  # kept ready; one takes some kilobytes
SHOWN_PROBLEMS = 3  # in one sentence: enough to mend a call
SHOWN_CHARS = 120  # of what a schema or a caller wrote
SCHEMA_BYTES = 256 * 1024
PLACES = 100_000  # of a schema, unfolded for arguments of a few levels: some hundred times what tools have
FEW_LEVELS = 4
CHECK_STEPS = 20_000_000  # of one call: whoever decides for many streams decides nothing else meanwhile
TELL_FAULTS = 20_000  # that there may be, as long as they are told: that takes a thousand times as long

UNREADABLE = "The arguments can't be read: they must be plain JSON, nested a few levels at most."
TOO_COSTLY = "The arguments are nested too deeply, or have too many parts, to be checked: give fewer of them."
UNTOLD = "The arguments don't fit the tool's parameters; they are too many to say where."


def validator_for(tool: ToolDefinition) -> Validator:
    """Return a function from arguments to None, or to a sentence for the model that names what is wrong where.

    Compiled once for each schema's bytes.

    Raises:
        ConfigurationError: the parameters are not a JSON Schema 2020-12, refer to something outside them, or could
            take too long to check.
    """
    try:
        schema = orjson.dumps(tool.parameters, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise _unusable(tool.name, "they are not plain JSON, or nested too deeply") from error
    return _compiled(tool.name, schema)


def _unusable(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"the parameters of tool {name!r} are not a usable JSON Schema: {reason}")


@lru_cache(maxsize=COMPILED_SCHEMAS)
def _compiled(name: str, schema: bytes) -> Validator:
    told = orjson.loads(schema)
    if len(schema) > SCHEMA_BYTES or measure(told).levels > LEVELS:
        raise _unusable(name, f"they have more than {SCHEMA_BYTES // 1024} KiB, or more than {LEVELS} levels")
    cost = SchemaCost(told)
    if not cost.is_clear:
        raise _unusable(name, f"they have more than {OWN_SCHEMAS} parts with an $id, or with the same anchor")
    if cost.places(FEW_LEVELS) > PLACES:
        raise _unusable(name, "written out in full, without references, they would be far too long")
    try:
        validator = jsonschema_rs.Draft202012Validator(
            told, validate_formats=True, offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except ValueError as error:
        raise _unusable(name, str(error).partition("\n")[0]) from error

    def problem_with(arguments: JsonObject) -> str | None:
        size = measure(arguments)
        if size.levels > LEVELS:
            return UNREADABLE
        if cost.steps(size) > CHECK_STEPS:
            return TOO_COSTLY
        try:
            if validator.is_valid(arguments):
                return None
            if cost.faults(size) > TELL_FAULTS:
                return UNTOLD
            problems = sorted({f"{_place(e.instance_path)} {_words(e)}" for e in validator.iter_errors(arguments)})
        except ValueError:  # lone surrogates, values which are not JSON, too many levels
            return UNREADABLE
        shown = "; ".join(problems[:SHOWN_PROBLEMS])
        more = len(problems) - SHOWN_PROBLEMS
        return f"The arguments don't fit: {shown}{f'; and {more} more' if more > 0 else ''}."

    return problem_with


def _place(path: list[str | int]) -> str:
    if not path:
        return "the arguments"
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return _short(steps.removeprefix("."))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"


def _show(value: Json) -> str:
    return _short(orjson.dumps(value).decode())


def _names(names: list[str]) -> str:
    return _short(", ".join(sorted(names)))


# How to say what each keyword wants. What is missing here is named by its keyword.
_WORDS: dict[str, Callable[[Any], str]] = {
    "type": lambda types: f"must be {' or '.join(sorted(types))}",
    "required": lambda name: f"must have {name}",
    "additionalProperties": lambda names: f"must not have {_names(names)}",
    "unevaluatedProperties": lambda names: f"must not have {_names(names)}",
    "enum": lambda options: f"must be one of {_show(options)}",
    "const": lambda value: f"must be {_show(value)}",
    "format": lambda name: f"must be in the format {name}",
    "pattern": lambda pattern: f"must match {_short(pattern)}",
    "minLength": lambda limit: f"must have at least {limit} characters",
    "maxLength": lambda limit: f"must have at most {limit} characters",
    "minItems": lambda limit: f"must have at least {limit} items",
    "maxItems": lambda limit: f"must have at most {limit} items",
    "minProperties": lambda limit: f"must have at least {limit} fields",
    "maxProperties": lambda limit: f"must have at most {limit} fields",
    "minimum": lambda limit: f"must be at least {limit}",
    "maximum": lambda limit: f"must be at most {limit}",
    "exclusiveMinimum": lambda limit: f"must be more than {limit}",
    "exclusiveMaximum": lambda limit: f"must be less than {limit}",
    "multipleOf": lambda number: f"must be a multiple of {number}",
    "uniqueItems": lambda _: "must not have the same item twice",
}


def _words(error: jsonschema_rs.ValidationError) -> str:
    kind = error.kind
    if kind.name in ("oneOf", "anyOf"):
        return _alternatives(kind.value)
    words = _WORDS.get(kind.name)
    return words(kind.value) if words else f"must satisfy {kind.name!r} of its schema"


def _alternatives(branches: list[list[jsonschema_rs.ValidationError]]) -> str:
    if any(not branch for branch in branches):
        return "must fit exactly one of the alternatives, but fits several"
    ways = sorted({" and ".join(sorted({_words(error) for error in branch})) for branch in branches})
    return _short(" or ".join(ways))
