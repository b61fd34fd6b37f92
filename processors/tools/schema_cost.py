"""What checking arguments against a JSON Schema may cost, worked out before they are checked.

A schema of a few lines can take years: each of its parts refers twice to the next one, or to itself in two ways at
every level of the arguments. Whoever decides can't wait for that, and nothing interrupts it. So a schema is unfolded,
as far as the arguments are deep, and what is too much is refused. What a keyword means matters only in so far as it
leads into a part of the arguments, which are not infinitely deep; the rest errs on the side of too much.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from schemas.message import Json

LEVELS = 100  # of lists and objects in each other, in arguments and in schemas: as in results
CHAIN = 400  # parts of a schema that lead to each other: Python has no more calls in calls
OWN_SCHEMAS = 16  # with an $id of their own, or an anchor of one name: each may be meant wherever a name stands
VISITS = 50_000  # of parts, while one depth is unfolded: more would take longer than what is to be prevented
MOST = 10**12  # beyond every limit; from here on it is not counted
CHARS_A_STEP = 64
CHARS_A_COPY = 1_024

_DEEPER = frozenset(
    {"additionalProperties", "unevaluatedProperties", "propertyNames", "items", "unevaluatedItems", "contains"}
)
_DEEPER_EACH = frozenset({"properties", "patternProperties", "prefixItems"})
_ELSEWHERE = frozenset({"$defs", "definitions"})  # looked at only where something refers there
_VALUES = frozenset({"const", "enum", "default", "examples", "required", "type"})
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_REPEATED = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")

Weigh = Callable[[dict[str, Json]], int]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a value is: values in it, characters of text together, levels of lists and objects."""

    values: int
    characters: int
    levels: int


def measure(value: Json) -> Size:
    """Return how large a value is; what is deeper than LEVELS is only looked at so far."""
    count = characters = levels = 0
    level: list[Json] = [value]
    while level and levels <= LEVELS:
        count += len(level)
        below: list[Json] = []
        for each in level:
            if isinstance(each, str):
                characters += len(each)
            elif isinstance(each, dict):
                characters += sum(len(name) for name in each)
                below += each.values()
            elif isinstance(each, list | tuple):
                below += each
        level = below
        levels += bool(below)
    return Size(count, characters, levels)


class SchemaCost:
    """What a schema costs. A step takes less than 100 ns; a fault that has to be told, less than 100 µs."""

    __slots__ = ("_patterns", "_places", "is_clear")

    def __init__(self, schema: Json) -> None:
        """Look at a schema; where it has too many names in it for that, it is not `is_clear`, and costs MOST."""
        parts = _Parts(schema)
        self.is_clear = parts.is_clear
        self._places = _Unfolded(parts, lambda part: len(part) or 1)
        self._patterns = _Unfolded(parts, _pattern_weight)

    def places(self, levels: int) -> int:
        """Return how many keywords may be asked about one value in arguments that are so deep."""
        return self._places.root(levels)

    def faults(self, size: Size) -> int:
        """Return how many faults there may be to tell, a long text counted as often as it is long to copy."""
        return self._places.root(size.levels) * (size.values + size.characters // CHARS_A_COPY)

    def steps(self, size: Size) -> int:
        """Return the most steps that checking arguments of that size takes."""
        read = 1 + size.characters // CHARS_A_STEP
        return self._places.root(size.levels) * size.values + self._patterns.root(size.levels) * read


def _pattern_weight(part: dict[str, Json]) -> int:
    """Return what the patterns of one part of a schema cost: time is linear in the text and in the pattern's states."""
    told = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    if isinstance(named := part.get("patternProperties"), dict):
        told += named
    repeats = [int(most or least) for text in told for least, most in _REPEATED.findall(text)]
    return 16 * sum(map(len, told)) + 32 * sum(repeats)


class _Parts:
    """A schema, and where references in it may lead: rather to more parts than to fewer."""

    def __init__(self, schema: Json) -> None:
        self.root = schema
        self._anchored: dict[str, list[Json]] = {}
        self._named: list[Json] = [schema]
        waiting = [schema]
        while waiting:
            part = waiting.pop()
            if isinstance(part, list):
                waiting += part
            elif isinstance(part, dict):
                waiting += part.values()
                for word in ("$anchor", "$dynamicAnchor"):
                    if isinstance(part.get(word), str):
                        self._anchored.setdefault(part[word], []).append(part)
                if isinstance(part.get("$id"), str) and part is not schema:
                    self._named.append(part)
        self.is_clear = max(len(self._named), *map(len, self._anchored.values()), 0) <= OWN_SCHEMAS

    def targets(self, reference: Json) -> list[Json]:
        """Return the parts that a reference may be to; none where it is to the standard itself."""
        if not isinstance(reference, str):
            return []
        fragment = unquote(reference.partition("#")[2])
        if fragment and not fragment.startswith("/"):
            return self._anchored.get(fragment, [])
        return [found for part in self._named for found in _at(part, fragment)]


def _at(part: Json, pointer: str) -> Iterator[Json]:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(part, dict) and name in part:
            part = part[name]
        elif isinstance(part, list) and name.isdecimal() and len(name) < 6 and int(name) < len(part):
            part = part[int(name)]
        else:
            return
    yield part


class _Unfolded:
    """A schema's parts, each as often as it may be applied, weighed."""

    def __init__(self, parts: _Parts, weigh: Weigh) -> None:
        self._parts = parts
        self._weigh = weigh
        self._known: dict[tuple[int, int], int] = {}
        self._roots: dict[int, int] = {}

    def root(self, levels: int) -> int:
        """Return the weight of the whole; what was asked before has no part in what is answered."""
        known = self._roots.get(levels)
        if known is None:
            known = self._of(self._parts.root, levels, 0) if self._parts.is_clear else MOST
            self._roots[levels] = known = MOST if len(self._known) > VISITS else known
            self._known = {}
        return known

    def _of(self, part: Json, levels: int, chain: int) -> int:
        if not isinstance(part, dict):
            return 1
        key = (id(part), levels)
        if (known := self._known.get(key)) is not None:
            return known
        if chain > CHAIN or len(self._known) > VISITS:
            return MOST
        self._known[key] = 1  # what refers to itself on the same level is looked at once
        total = self._weigh(part)
        for word, told in part.items():
            if word in _REFERENCES:
                most = 0
                for target in self._parts.targets(told):
                    most = max(most, self._of(target, levels, chain + 1))
                total += most
            elif word in _VALUES:
                total += _weight(told)
            elif word not in _ELSEWHERE and isinstance(told, dict | list):
                deeper = word in _DEEPER or word in _DEEPER_EACH
                if levels == 0 and deeper:
                    continue
                for each in _schemas(word, told):
                    total += self._of(each, levels - deeper, chain + 1)
        self._known[key] = total = min(total, MOST)
        return total


def _schemas(word: str, told: dict[str, Json] | list[Json]) -> Iterator[Json]:
    if isinstance(told, list):
        yield from told
    elif word in _DEEPER_EACH or word == "dependentSchemas":
        yield from told.values()
    else:
        yield told


def _weight(value: Json) -> int:
    size = measure(value)
    return size.values + size.characters // CHARS_A_STEP
