"""What differs between two versions of an agent, field by field."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.message import Json


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs. `kind` says whether it is only in the new one, only in the old one, or in both."""

    field: str
    kind: str
    old: Json = None
    new: Json = None


def changes_between(old: Json, new: Json, field: str = "") -> list[Change]:
    """Return what differs, in the order of the fields. Items of lists that have names are compared by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        return list(_of_mappings(old, new, field))
    if isinstance(old, list) and isinstance(new, list):
        named_old, named_new = _by_name(old), _by_name(new)
        if named_old is not None and named_new is not None:
            return [*_of_mappings(named_old, named_new, field, "[{}]"), *_order(named_old, named_new, field)]
        if not any(isinstance(item, dict | list) for item in (*old, *new)):
            return list(_of_values(old, new, field))
    return [] if old == new else [Change(field, "changed", old, new)]


def _of_mappings(old: dict[str, Json], new: dict[str, Json], field: str, form: str = ".{}") -> Iterator[Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        where = f"{field}{form.format(name)}".removeprefix(".")
        if name not in new:
            yield Change(where, "removed", old=old[name])
        elif name not in old:
            yield Change(where, "added", new=new[name])
        else:
            yield from changes_between(old[name], new[name], where)


def _of_values(old: list[Json], new: list[Json], field: str) -> Iterator[Change]:
    removed, added = [v for v in old if v not in new], [v for v in new if v not in old]
    yield from (Change(f"{field}[]", "removed", old=value) for value in removed)
    yield from (Change(f"{field}[]", "added", new=value) for value in added)
    if old != new and not (removed or added):
        yield Change(field, "changed", old, new)


def _order(old: dict[str, Json], new: dict[str, Json], field: str) -> list[Change]:
    if old.keys() != new.keys() or list(old) == list(new):
        return []
    return [Change(field, "changed", list(old), list(new))]


def _by_name(items: list[Json]) -> dict[str, Json] | None:
    """Return items by name, where each has one of its own; an empty list has no item without one."""
    named = {item["name"]: item for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)}
    return named if len(named) == len(items) else None
