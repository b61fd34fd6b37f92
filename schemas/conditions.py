"""Conditions in the Common Expression Language: `data.amount > 100 && event.source == '/crm'`.

They are parsed and type-checked when they are written, by Google's own implementation of CEL, and bounded in what they
cost. An evaluation never raises: what can't be said of the data, such as a field that is missing, is not met.

    condition = compile_condition("data.score < 50", {"data": "any"})
    condition.holds({"data": {"score": 40}})
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from schemas.errors import ConditionError
from schemas.expression_cost import COST, Cost, Data, cost_of, measure

logger = logging.getLogger(__name__)

CONDITION_CHARS = 1_000
SHOWN_CHARS = 80  # of an expression in a message

VariableType = Literal["any", "bool", "number", "text", "time", "list", "map"]
Variables = Mapping[str, VariableType]

EVENT: Variables = {
    "event.type": "text",
    "event.source": "text",
    "event.id": "text",
    "event.subject": "text",
    "event.time": "time",
    "event.data": "any",
    "data": "any",
}
"""What a condition over an event knows; `data` is short for `event.data`, a subject that is missing is ''."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_OVERLOAD = re.compile(r"found no matching overload for '_?([^']+?)_?' applied to '\((.*)\)'")
_UNKNOWN = re.compile(r"undeclared reference to '([^']*)'")


class Facts:
    """What conditions are about, prepared once for any number of them: the value of each variable by its name."""

    __slots__ = ("_activations", "_data", "values")

    def __init__(self, values: Mapping[str, object]) -> None:
        """Hold `values`, by the names that the conditions' variables have; nothing is looked at yet."""
        self.values = values
        self._data: Data | None = None
        self._activations: dict[Any, Any] = {}

    def data(self) -> Data:
        """Return how large they are.

        Raises:
            ValueError: larger than a condition looks at.
        """
        if self._data is None:
            self._data = measure(list({id(value): value for value in self.values.values()}.values()))
        return self._data

    def activation(self, env: Any) -> Any:
        """Return them as CEL reads them."""
        made = self._activations.get(env)
        if made is None:
            made = self._activations[env] = env.Activation(dict(self.values))
        return made


@dataclass(slots=True)
class Expression:
    """An expression that was checked. `failures` counts evaluations that came to nothing; the first is logged."""

    text: str
    cost: Cost
    _env: Any
    _program: Any
    failures: int = 0

    def value(self, facts: Facts | Mapping[str, object]) -> object:
        """Return what the expression comes to; None where it comes to nothing. It never raises."""
        try:
            return self._evaluate(facts if isinstance(facts, Facts) else Facts(facts))
        except Exception as error:  # noqa: BLE001 - whatever the library makes of the data, it only comes to nothing
            self.failures += 1
            if self.failures == 1:
                said = " ".join(str(error).split())[:200]
                logger.warning(
                    "%s can't be evaluated: it wakes nobody; as a rule over calls it holds: %s; said once",
                    _short(self.text),
                    said,
                )
            return None

    def _evaluate(self, facts: Facts) -> object:
        steps = self.cost.of(facts.data())
        if steps > COST:
            raise ValueError(f"the data is too large for it: it could take {steps} steps")
        result = self._program.eval(facts.activation(self._env))
        if result.type() == cel.Type.ERROR:
            raise ValueError(str(result.value()))
        plain: object = result.plain_value()
        return plain


@dataclass(slots=True)
class Condition:
    """An expression that holds or does not."""

    expression: Expression

    @property
    def text(self) -> str:
        """The condition as it was written."""
        return self.expression.text

    @property
    def failures(self) -> int:
        """How many evaluations came to nothing: they count as not met."""
        return self.expression.failures

    def holds(self, facts: Facts | Mapping[str, object]) -> bool:
        """Whether it is met; what can't be evaluated is not, and neither is what comes to anything but true."""
        return self.expression.value(facts) is True


@lru_cache(maxsize=4_096)
def _compiled(text: str, variables: tuple[tuple[str, VariableType], ...]) -> Expression:
    if len(text) > CONDITION_CHARS:
        raise ConditionError(f"an expression may have {CONDITION_CHARS} characters, this one has {len(text)}")
    if not text.strip():
        raise ConditionError("an expression is missing: write one such as 'data.amount > 100'")
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise ConditionError("an expression is text: half of a character (a lone surrogate) stands in this one")
    env = _env(variables)
    try:
        program = env.compile(text)
        cost = cost_of(program.serialize())
    except ValueError as error:
        raise ConditionError(f"{_short(text)}: {error}") from None
    except Exception as error:  # noqa: BLE001 - the library raises RuntimeError, or what the bytes of a text make it raise
        raise ConditionError(f"{_short(text)}: {_fault(str(error), [name for name, _ in variables])}") from None
    return Expression(text, cost, env, program)


def compile_condition(text: str, variables: Variables = EVENT) -> Condition:
    """Return the condition that `text` writes over `variables`.

    Raises:
        ConditionError: it is none, its types do not fit, or it could cost too much; the message says where and why.
    """
    expression = _compiled(text, tuple(variables.items()))
    kind = expression._program.return_type()
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        raise ConditionError(
            f"{_short(text)} is a value ({_type_name(kind)}), not a condition: compare it, as in 'a > 1'"
        )
    return Condition(expression)


def compile_number(text: str, variables: Variables = EVENT) -> Expression:
    """Return the expression for a number that `text` writes over `variables`; its value may still be anything.

    Raises:
        ConditionError: as of `compile_condition`.
    """
    expression = _compiled(text, tuple(variables.items()))
    kind = expression._program.return_type()
    if kind not in (cel.Type.INT, cel.Type.UINT, cel.Type.DOUBLE, cel.Type.DYN):
        raise ConditionError(
            f"{_short(text)} is no number but {_type_name(kind)}: write one such as 'data.amount' or '1'"
        )
    return expression


def compile_amount(text: str, variables: Variables = EVENT) -> Expression:
    """Return the expression for a number or a truth that `text` writes over `variables`; it may still be anything.

    Raises:
        ConditionError: as of `compile_condition`.
    """
    expression = _compiled(text, tuple(variables.items()))
    if expression._program.return_type() == cel.Type.BOOL:
        return expression
    return compile_number(text, variables)


def event_facts(*, type: str, source: str, id: str, subject: str | None, time_ms: int, data: object) -> Facts:
    """Return what conditions over an event are about."""
    return Facts(
        {
            "event.type": type,
            "event.source": source,
            "event.id": id,
            "event.subject": subject or "",
            "event.time": _EPOCH + timedelta(milliseconds=time_ms),
            "event.data": data,
            "data": data,
        }
    )


@lru_cache(maxsize=64)
def _env(variables: tuple[tuple[str, VariableType], ...]) -> Any:
    kind = cel.Type
    types = {
        "any": kind.DYN,
        "bool": kind.BOOL,
        "number": kind.DOUBLE,
        "text": kind.STRING,
        "time": kind.TIMESTAMP,
        "list": kind.List(kind.DYN),
        "map": kind.Map(kind.STRING, kind.DYN),
    }
    # Of its functions only lowerAscii and upperAscii are let through: see schemas.expression_cost.
    return cel.NewEnv(
        variables={name: types[type_] for name, type_ in variables}, extensions=[ext_strings.ExtStrings()]
    )


def _fault(said: str, names: list[str]) -> str:
    match = _PLACE.search(said)
    if match is None:
        return "it is nested too deeply" if "recursion" in said else " ".join(said.split())[:200]
    line, column, what = match.groups()
    if (types := _OVERLOAD.match(what)) is not None:
        what = f"{types[1].strip('_')!r} can't be applied to ({types[2]})"
    elif (unknown := _UNKNOWN.match(what)) is not None:
        what = f"there is no {unknown[1]!r}; there are {', '.join(names)}"
    elif "recursion" in what:
        what = "it is nested too deeply"
    if int(column) < 0:
        return what[:300]
    return f"{f'line {line}, ' if line != '1' else ''}column {int(column)}: {what[:300]}"


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…")


def _type_name(kind: Any) -> str:
    return str(kind.name()).lower()
