"""From a model's question to a statement: names are looked up in the catalogue of entities, values are bound.

No text of the caller's ever becomes part of a statement; what is not in the catalogue is refused.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import NoReturn

from infra.data.entities import Entity, Kind
from processors.tools.port import ToolError
from schemas.ids import UUID_PATTERN
from schemas.message import Json, JsonObject

DEFAULT_ROWS = 100
MOST_ROWS = 200
MOST_GROUPS = 100
TEXT_CHARS = 1_000  # of one text: more would crowd out the other records
VALUE_CHARS = 1_000  # of one given by the caller
IN_VALUES = 100

_ORDERED = frozenset({"lt", "lte", "gt", "gte"})
_SIGNS = {"eq": "=", "ne": "IS DISTINCT FROM", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
OPERATORS: Mapping[Kind, frozenset[str]] = {
    "text": frozenset(_SIGNS) | {"in", "contains", "starts_with", "is_null"},
    "id": frozenset({"eq", "ne", "in", "is_null"}),
    "integer": frozenset(_SIGNS) | {"in", "is_null"},
    "time": frozenset(_SIGNS) | {"is_null"},
    "date": frozenset(_SIGNS) | {"is_null"},
    "boolean": frozenset({"eq", "ne", "is_null"}),
    "list": frozenset({"contains", "is_null"}),
}
_TYPES: Mapping[Kind, str] = {
    "text": "text",
    "id": "uuid",
    "integer": "bigint",
    "time": "timestamptz",
    "date": "date",
    "boolean": "boolean",
    "list": "text",
}
_METRICS: Mapping[str, frozenset[Kind]] = {
    "sum": frozenset({"integer"}),
    "avg": frozenset({"integer"}),
    "min": frozenset({"integer", "time", "date"}),
    "max": frozenset({"integer", "time", "date"}),
    "count_distinct": frozenset({"text", "id", "integer", "time", "date", "boolean"}),
}
_SPANS = ("day", "week", "month")
_CALL = re.compile(r"([a-z_]{1,30})\(([a-z_]{1,64})\)")


@dataclass(slots=True)
class Statement:
    """A statement under way. `$1` is the site, always."""

    entity: Entity
    values: list[object] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)

    def bind(self, value: object, kind: Kind, array: bool = False) -> str:
        """Return the placeholder of `value`."""
        self.values.append(value)
        return f"${len(self.values) + 1}::{_TYPES[kind]}{'[]' if array else ''}"

    @property
    def where(self) -> str:
        """The condition: the site first."""
        return " AND ".join(["site_id = $1::uuid", *self.conditions])


def query(entities: Mapping[str, Entity], arguments: JsonObject) -> tuple[str, list[object], int]:
    """Return a statement for records, its values but the site, and how many rows are wanted: it asks for one more.

    Raises:
        ToolError: something is not in the catalogue; the words name what is.
    """
    entity = _entity(entities, arguments["entity_type"])
    asked = Statement(entity)
    _filter(asked, arguments.get("filters") or {})
    names = list(dict.fromkeys(arguments.get("fields") or entity.columns))
    columns = ", ".join(_shown(name, _kind(entity, name)) for name in names)
    limit = min(max(int(arguments.get("limit", DEFAULT_ROWS)), 1), MOST_ROWS)
    order = _order(entity, arguments.get("order_by") or f"-{entity.time}")
    # Every part is of the catalogue or a placeholder.
    sql = f"SELECT {columns} FROM {entity.table} WHERE {asked.where} ORDER BY {order} LIMIT {limit + 1}"  # noqa: S608
    return sql, asked.values, limit


def aggregate(entities: Mapping[str, Entity], arguments: JsonObject) -> tuple[str, list[object], int]:
    """Return a statement for figures (`value`, and `group` where grouped), its values, and how many rows are wanted.

    Raises:
        ToolError: something is not in the catalogue; the words name what is.
    """
    entity = _entity(entities, arguments["entity_type"])
    asked = Statement(entity)
    _filter(asked, arguments.get("filters") or {})
    _in_span(asked, arguments.get("date_range") or {})
    metric = _metric(entity, arguments["metric"])
    group = arguments.get("group_by")
    if group is None:
        return f"SELECT {metric} AS value FROM {entity.table} WHERE {asked.where}", asked.values, 1  # noqa: S608
    by = _group(entity, group)
    sql = (
        f'SELECT {by} AS "group", {metric} AS value FROM {entity.table} WHERE {asked.where} '  # noqa: S608
        f"GROUP BY 1 ORDER BY 2 DESC NULLS LAST, 1 LIMIT {MOST_GROUPS + 1}"
    )
    return sql, asked.values, MOST_GROUPS


# --- names ----------------------------------------------------------------------------------------------------------


def _entity(entities: Mapping[str, Entity], name: str) -> Entity:
    if name not in entities:
        _unknown("entity", name, entities)
    return entities[name]


def _kind(entity: Entity, name: str) -> Kind:
    if name not in entity.columns:
        _unknown("field", name, entity.columns)
    return entity.columns[name]


def _unknown(what: str, name: str, known: Iterable[str]) -> NoReturn:
    names = sorted(known)
    close = difflib.get_close_matches(name[:64], names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ToolError(f"There is no {what} {_quoted(name)}: {hint}known are {', '.join(names)}.")


def _quoted(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _shown(name: str, kind: Kind) -> str:
    match kind:
        case "text":
            return f'left("{name}", {TEXT_CHARS}) AS "{name}"'
        case "list":
            return f'"{name}"[1:50] AS "{name}"'
        case _:
            return f'"{name}"'


def _order(entity: Entity, asked: str) -> str:
    name = asked.removeprefix("-")
    if _kind(entity, name) == "list":
        raise ToolError(f"Records can't be sorted by {name}: it is a list.")
    direction = "DESC NULLS LAST" if asked.startswith("-") else "ASC NULLS LAST"
    return f'"{name}" {direction}, "{entity.key}"'


def _metric(entity: Entity, asked: str) -> str:
    if asked == "count":
        return "count(*)"
    call = _CALL.fullmatch(asked)
    if call is None or call[1] not in _METRICS:
        wanted = "count, " + ", ".join(f"{name}(field)" for name in _METRICS)
        raise ToolError(f"The metric {_quoted(asked)} is unknown: use one of {wanted}.")
    name, column = call.groups()
    kinds = _METRICS[name]
    if _kind(entity, column) not in kinds:
        fitting = sorted(other for other, kind in entity.columns.items() if kind in kinds)
        raise ToolError(f"There is no {name} of {column}: use it with one of {', '.join(fitting)}.")
    if name == "count_distinct":
        return f'count(DISTINCT "{column}")'
    return f'{name}("{column}")'


def _group(entity: Entity, asked: str) -> str:
    call = _CALL.fullmatch(asked)
    if call is None:
        kind = _kind(entity, asked)
        if kind == "list":
            raise ToolError(f"Records can't be grouped by {asked}: it is a list.")
        return _shown(asked, kind).partition(" AS ")[0]
    span, column = call.groups()
    if span not in _SPANS or _kind(entity, column) not in ("time", "date"):
        raise ToolError(f"{_quoted(asked)} is no group: use a field, or day, week or month of a time.")
    return f"""date_trunc('{span}', "{column}"::timestamptz AT TIME ZONE 'UTC')::date"""


# --- values ---------------------------------------------------------------------------------------------------------


def _filter(asked: Statement, filters: JsonObject) -> None:
    for name, condition in filters.items():
        kind = _kind(asked.entity, name)
        operators = condition if isinstance(condition, dict) else {"eq": condition}
        if not operators:
            raise ToolError(f"The filter of {name} says nothing: give a value or an operator.")
        for operator, value in operators.items():
            asked.conditions.append(_condition(asked, name, kind, operator, value))


def _condition(asked: Statement, name: str, kind: Kind, operator: str, value: Json) -> str:
    if operator not in OPERATORS[kind]:
        _unknown(f"operator for the {kind} {name}", operator, OPERATORS[kind])
    column = f'"{name}"'
    if value is None and operator in ("eq", "ne"):
        operator, value = "is_null", operator == "eq"
    match operator:
        case "is_null":
            if not isinstance(value, bool):
                raise ToolError(f"is_null of {name} must be true or false.")
            return f"{column} IS NULL" if value else f"{column} IS NOT NULL"
        case "in":
            if not isinstance(value, list) or len(value) > IN_VALUES:
                raise ToolError(f"in of {name} must be a list of at most {IN_VALUES} values.")
            return f"{column} = ANY({asked.bind([_value(name, kind, item) for item in value], kind, array=True)})"
        case "contains" if kind == "list":
            return f"{asked.bind(_value(name, 'text', value), 'text')} = ANY({column})"
        case "contains":
            return f"strpos(lower({column}), lower({asked.bind(_value(name, kind, value), kind)})) > 0"
        case "starts_with":
            return f"starts_with(lower({column}), lower({asked.bind(_value(name, kind, value), kind)}))"
        case _:
            return f"{column} {_SIGNS[operator]} {asked.bind(_value(name, kind, value), kind)}"


def _value(name: str, kind: Kind, value: Json) -> object:
    """Return `value` as the driver takes it.

    Raises:
        ToolError: it is not of the column's kind.
    """
    match kind:
        case "text" | "list" if isinstance(value, str) and len(value) <= VALUE_CHARS:
            # Postgres has no place for these, so no record can hold them: what is asked for is not changed otherwise.
            return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
        case "id" if isinstance(value, str) and UUID_PATTERN.fullmatch(value.lower()):
            return value.lower()
        case "integer" if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "time" if isinstance(value, str):
            return _moment(name, value)
        case "date" if isinstance(value, str):
            return _moment(name, value).date()
    wanted = {
        "text": f"a text of at most {VALUE_CHARS} characters",
        "id": "a UUID",
        "integer": "a whole number",
        "boolean": "true or false",
        "time": "a time such as 2026-03-01T09:00:00Z",
        "date": "a day such as 2026-03-01",
        "list": "a text",
    }[kind]
    raise ToolError(f"{_quoted(value)} can't be compared with {name}: it must be {wanted}.")


def _moment(name: str, text: str) -> datetime:
    try:
        if len(text) == len("2026-03-01"):
            return datetime.combine(date.fromisoformat(text), time.min, UTC)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ToolError(f"{_quoted(text)} can't be compared with {name}: write it like 2026-03-01 or 2026-03-01T09:00:00Z.")


def _in_span(asked: Statement, span: JsonObject) -> None:
    if not span:
        return
    name = span.get("field", asked.entity.time)
    kind = _kind(asked.entity, name)
    if kind not in ("time", "date"):
        raise ToolError(f"A span of time needs a time, and {name} is none.")
    for bound, sign in (("from", ">="), ("to", "<")):
        if bound in span:
            asked.conditions.append(f'"{name}" {sign} {asked.bind(_value(name, kind, span[bound]), kind)}')
