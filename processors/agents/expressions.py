"""CEL expressions that give a value: parsed when an agent is saved, evaluated without ever raising.

Only what is cheap: no loops over what stands in an event (`map`, `filter`, `all`, `exists`), no regular expressions,
and only the variables that are told. Which library parses is known here alone.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cel

from schemas.message import Json

EXPRESSION_CHARS = 2_000
VARIABLES = ("event", "data")  # `event` has type, source, subject, time and data; `data` is short for event.data

_FUNCTIONS = frozenset(
    {
        *("size", "int", "uint", "double", "string", "bool", "contains", "startsWith", "endsWith", "min", "max"),
        *("timestamp", "duration", "getFullYear", "getMonth", "getDayOfMonth", "getDate", "getDayOfWeek", "getHours"),
        *("getMinutes", "getSeconds"),
    }
)
_OPERATOR_MARKS = frozenset("_@!-[")
_OF_MACROS = frozenset({"@not_strictly_false"})
# What evaluating is known to raise: missing keys, types that do not fit, overflow, division by zero, odd values.
_FAILURES = (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    text: str
    _program: Any

    def value(self, values: Mapping[str, Json]) -> Json:
        """Return what the expression gives for `values`; None where it gives null or can't be evaluated."""
        try:
            return self._program.execute(dict(values))
        except _FAILURES:
            return None

    def number(self, values: Mapping[str, Json]) -> float | None:
        """Return the number that the expression gives, 1 or 0 for a truth value; None for anything else."""
        value = self.value(values)
        if not isinstance(value, int | float):
            return None
        number = float(value)
        return number if math.isfinite(number) else None


@lru_cache(maxsize=4_096)  # the same few are asked for each event
def compile_expression(text: str, variables: tuple[str, ...] = VARIABLES) -> Expression:
    """Return the expression.

    Raises:
        ValueError: it is no CEL, or uses what it may not; the message says what and what else to write.
    """
    if len(text) > EXPRESSION_CHARS:
        raise ValueError(f"an expression may have {EXPRESSION_CHARS} characters, this one has {len(text)}")
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is not CEL: {_syntax_error(str(error))}") from None
    _check_functions(text, program.functions())
    unknown = sorted(set(program.variables()) - set(variables))
    if unknown:
        raise ValueError(
            f"{text[:80]!r} uses {unknown[0]!r}, which is not known; there is {_listed(variables)}: "
            f"write data.{unknown[0]} for a field of the event"
        )
    return Expression(text, program)


def _check_functions(text: str, functions: Collection[str]) -> None:
    for name in functions:
        if name in _OF_MACROS:
            raise ValueError(f"{text[:80]!r} loops over a list (all, exists, map, filter): compare single fields")
        if name not in _FUNCTIONS and name[:1] not in _OPERATOR_MARKS:
            raise ValueError(f"{text[:80]!r} calls {name!r}; there are only {_listed(sorted(_FUNCTIONS))}")


def _syntax_error(message: str) -> str:
    found = message.partition("ERROR: ")[2] or message
    return found.partition("\n")[0].removeprefix("<input>:").strip()[:200]


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)
