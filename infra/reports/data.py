"""The data tools: reading rows and figures of one site.

Arguments come from a model. What is spliced into SQL are names out of our own lists; every value is bound.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg

from infra.reports.sources import Pool, midnight, reading
from processors.tools.builtin.data import ENTITIES, GROUPS_LIMIT, PERIODS, ROWS_DEFAULT, ROWS_LIMIT, Entity, Kind
from processors.tools.port import ToolError
from schemas.ids import UUID_PATTERN, SiteId
from schemas.message import Json, JsonObject

TABLES = {
    "contacts": "sandbox.contacts",
    "notes": "sandbox.notes",
    "tasks": "sandbox.tasks",
    "emails": "sandbox.emails",
    "runs": "projections.ai_agent_executions",
}
_CASTS: dict[Kind, str] = {"text": "text", "id": "uuid", "number": "bigint", "time": "timestamptz"}
_OPERATIONS = {"sum": "sum", "mean": "avg", "min": "min", "max": "max"}
INT64 = range(-(2**63), 2**63)


async def query(pool: Pool, site_id: SiteId, arguments: JsonObject) -> Json:
    """Return rows of an entity: `{"rows": [...], "count": n}`.

    Raises:
        ToolError: a field or a value is none of the entity's.
        UnavailableError: Postgres does not answer.
    """
    entity = _entity(arguments)
    where, values = _where(entity, site_id, arguments.get("filters") or {})
    order = str(arguments.get("order_by") or f"-{entity.time}")
    field = _field(entity, order.removeprefix("-"), "text", "id", "number", "time")
    direction = "DESC NULLS LAST" if order.startswith("-") else "ASC NULLS LAST"
    limit = min(max(int(arguments.get("limit", ROWS_DEFAULT)), 1), ROWS_LIMIT)
    columns = ", ".join(entity.fields)
    sql = f"SELECT {columns} FROM {TABLES[entity.name]} WHERE {where} ORDER BY {field} {direction}, id LIMIT {limit}"  # noqa: S608
    async with reading(pool) as db:
        rows = await db.fetch(sql, *values)
    return {"rows": [_row(row) for row in rows], "count": len(rows)}


async def aggregate(pool: Pool, site_id: SiteId, arguments: JsonObject) -> Json:
    """Return one figure, `{"value": n}`, or one a group: `{"groups": [{"group": name, "value": n}]}`.

    Groups come by time, or by the highest figure first.

    Raises:
        ToolError: a field or a value is none of the entity's.
        UnavailableError: Postgres does not answer.
    """
    entity = _entity(arguments)
    where, values = _where(entity, site_id, arguments.get("filters") or {})
    for name, sign in (("from", ">="), ("to", "<")):
        if day := (arguments.get("date_range") or {}).get(name):
            values.append(midnight(_day(day) + timedelta(days=name == "to")))
            where += f" AND {entity.time} {sign} ${len(values)}"
    figure = _figure(entity, str(arguments["metric"]))
    table, group = TABLES[entity.name], arguments.get("group_by")
    if group is None:
        sql = f"SELECT {figure} AS value FROM {table} WHERE {where}"  # noqa: S608
    else:
        by, order = _group(entity, str(group))
        sql = (
            f"SELECT {by} AS group, {figure} AS value FROM {table} WHERE {where} "  # noqa: S608
            f"GROUP BY 1 ORDER BY {order} LIMIT {GROUPS_LIMIT}"
        )
    async with reading(pool) as db:
        rows = await db.fetch(sql, *values)
    found = [_row(row) for row in rows]
    return found[0] if group is None else {"groups": found}


def _entity(arguments: JsonObject) -> Entity:
    entity = ENTITIES.get(str(arguments.get("entity_type")))
    if entity is None:
        raise ToolError(f"There are no such data: there are {', '.join(ENTITIES)}.")
    return entity


def _field(entity: Entity, name: str, *kinds: Kind) -> str:
    if entity.fields.get(name) in kinds:
        return name
    fitting = ", ".join(field for field, kind in entity.fields.items() if kind in kinds) or "none"
    raise ToolError(f"{name[:60]!r} is no field of {entity.name} that can be used so: there are {fitting}.")


def _figure(entity: Entity, metric: str) -> str:
    operation, _, name = metric.partition(":")
    if operation == "count":
        return "count(*)"
    if operation not in _OPERATIONS:
        raise ToolError(f"{operation[:60]!r} is no metric: there are count, sum, mean, min and max of a field.")
    return f"{_OPERATIONS[operation]}({_field(entity, name, 'number')})"


def _group(entity: Entity, group: str) -> tuple[str, str]:
    if group in PERIODS:
        return f"date_trunc('{group}', {entity.time} AT TIME ZONE 'UTC')::date", "1"
    return _field(entity, group, "text", "id"), "2 DESC, 1"


# --- filters --------------------------------------------------------------------------------------------------------


def _where(entity: Entity, site_id: SiteId, filters: Mapping[str, Json]) -> tuple[str, list[object]]:
    conditions, values = ["site_id = $1"], list[object]([site_id])

    def bind(value: object, cast: str) -> str:
        values.append(value)
        return f"${len(values)}::{cast}"

    for name, wanted in filters.items():
        field = _field(entity, name, "text", "id", "number", "time")
        kind = entity.fields[field]
        cast = _CASTS[kind]
        if not isinstance(wanted, dict):
            conditions.append(f"{field} = {bind(_value(name, kind, wanted), cast)}")
            continue
        if "in" in wanted:
            listed = [_value(name, kind, one) for one in wanted["in"]]
            conditions.append(f"{field} = ANY({bind(listed, f'{cast}[]')})")
        for word, sign in (("from", ">="), ("to", "<")):
            if word in wanted:
                conditions.append(f"{field} {sign} {bind(_value(name, kind, wanted[word]), cast)}")
    return " AND ".join(conditions), values


def _value(name: str, kind: Kind, value: Json) -> object:
    match kind:
        case "text" if isinstance(value, str) and "\0" not in value:
            return value.encode("utf-8", "replace").decode()
        case "id" if isinstance(value, str) and UUID_PATTERN.fullmatch(value.lower()):
            return value.lower()
        case "number" if isinstance(value, int) and value in INT64:
            return value
        case "time" if isinstance(value, str):
            return _moment(name, value)
        case _:
            told = {"text": "a text", "id": "a UUID", "number": "a whole number", "time": "a time", "list": "nothing"}
            raise ToolError(f"The filter {name} must be {told[kind]}.")


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ToolError(f"The filter {name} must be a time such as 2026-03-01T00:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ToolError(f"{text[:60]!r} is not a day such as 2026-03-01.") from None


def _row(row: asyncpg.Record) -> JsonObject:
    return {name: _json(value) for name, value in row.items()}


def _json(value: object) -> Json:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case date() | UUID():
            return str(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else round(float(value), 4)
        case _:
            return value
