"""What an expression may cost, worked out from its checked form before it ever runs.

CEL always ends, but not always soon: a loop over a long list that compares lists in each round takes minutes. So loops
don't stand inside loops and build nothing new, and what one evaluation would cost is estimated from the expression
and the size of the data. The checked form is the protobuf message `cel.expr.CheckedExpr`; the few fields that matter
are read here, by their numbers in that specification.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NODES = 400  # of an expression: some fifty comparisons
LOOPS = 4
DATA_VALUES = 20_000
DATA_DEPTH = 64
COST = 20_000_000  # steps, of less than 50 ns each
CHARS_A_STEP = 64
_CASE_STEPS = 16  # as often as a search goes through a text: each character is looked at alone

_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_ON_TEXT = frozenset({"contains", "startsWith", "endsWith", "size", "string", "bytes", "int", "uint", "double", "bool"})
_READ_STEPS = {"duration": 32, "timestamp": 8}  # as often as a search: these are read in parts of a few characters
_INDEX_STEPS = 8  # as often: where there is no such field, the error tells its name
_PARTS = "FullYear Month DayOfYear DayOfMonth Date DayOfWeek Hours Minutes Seconds Milliseconds"
_IN_ZONE = frozenset(f"get{part}" for part in _PARTS.split())
# The library opens a zone as a file by its name, once and for ever: so it is no name that the data bring, and no path.
_ZONE = re.compile(rb"[+-]?[0-9]{2}:[0-9]{2}|[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_CASES = frozenset({"lowerAscii", "upperAscii"})  # go through a text, and make one as long
_ON_PARTS = "use contains, startsWith or endsWith"
_REFUSED = {"type": "compare with a value of the type you mean"} | dict.fromkeys(
    [
        "matches",
        "charAt",
        "format",
        "indexOf",
        "join",
        "lastIndexOf",
        "replace",
        "reverse",
        "split",
        "strings.quote",
        "substring",
        "trim",
    ],
    _ON_PARTS,
)


class Data(NamedTuple):
    """How large some data is: how many values, how many characters of text together, and the largest of each."""

    values: int
    characters: int
    longest_text: int
    largest_list: int


@dataclass(slots=True)
class Cost:
    """What one evaluation does: operations outside and inside of loops, by what they go through."""

    nodes: int = 0
    loops: int = 0
    text: list[int] = field(default_factory=lambda: [0, 0])  # go through a text; [0] once, [1] in every round
    whole: list[int] = field(default_factory=lambda: [0, 0])  # may go through all of the data

    def of(self, data: Data) -> int:
        """Return the most steps that an evaluation over `data` takes."""
        text = 1 + data.longest_text // CHARS_A_STEP
        whole = 1 + data.values + data.characters // CHARS_A_STEP
        once = self.nodes + self.text[0] * text + self.whole[0] * whole
        each = self.nodes + self.text[1] * text + self.whole[1] * whole
        return once + (self.loops * data.largest_list * each)


def measure(values: object) -> Data:
    """Return how large JSON-like `values` are.

    Raises:
        ValueError: they are larger, or nested deeper, than a condition looks at.
    """
    count = characters = longest = largest = depth = 0
    level: list[object] = [values]
    while level:
        depth += 1
        count += len(level)
        if depth > DATA_DEPTH or count > DATA_VALUES:
            raise ValueError(f"a condition looks at {DATA_VALUES} values, nested {DATA_DEPTH} deep; these are more")
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                characters += len(value)
                longest = max(longest, len(value))
            elif isinstance(value, dict):
                largest = max(largest, len(value))
                characters += sum(map(len, value))
                below += value.values()
            elif isinstance(value, list | tuple):
                largest = max(largest, len(value))
                below += value
        level = below
    return Data(count, characters, longest, largest)


def cost_of(checked: bytes) -> Cost:
    """Return what the expression of a `cel.expr.CheckedExpr`, serialized in a `google.protobuf.Any`, costs.

    Raises:
        ValueError: it is too large, or has something in it that is not bounded.
    """
    cost = Cost()
    expr = _one(_one(checked, 2), 4)
    if not expr:
        raise ValueError("what it costs can't be worked out")
    _walk(expr, cost, in_loop=False)
    if cost.nodes > NODES:
        raise ValueError(f"it is too long: {cost.nodes} parts, {NODES} are allowed")
    if cost.loops > LOOPS:
        raise ValueError(f"it has {cost.loops} of all(), exists(), exists_one() and filter(), {LOOPS} are allowed")
    return cost


def _walk(expr: bytes, cost: Cost, *, in_loop: bool) -> None:
    cost.nodes += 1
    for number, body in _fields(expr):
        match number:
            case 5:  # select
                _walk(_one(body, 1), cost, in_loop=in_loop)
            case 6:
                _call(body, cost, in_loop=in_loop)
            case 7:  # list
                for element in _all(body, 1):
                    _walk(element, cost, in_loop=in_loop)
            case 8:  # map
                if _one(body, 1):
                    raise ValueError("it makes a message; maps are written {'key': value}")
                for entry in _all(body, 2):
                    _walk(_one(entry, 3), cost, in_loop=in_loop)
                    _walk(_one(entry, 4), cost, in_loop=in_loop)
            case 9:
                _loop(body, cost, in_loop=in_loop)


def _call(call: bytes, cost: Cost, *, in_loop: bool) -> None:
    function = _one(call, 2).decode()
    operands = [target for target in _all(call, 1) if target] + _all(call, 3)
    if function in _REFUSED:
        raise ValueError(f"{function}() is not allowed: {_REFUSED[function]}")
    if function in _IN_ZONE:
        _check_zone(function, operands[1:])
    elif function in _ON_TEXT:
        cost.text[in_loop] += 1
    elif function in _READ_STEPS:
        cost.text[in_loop] += _READ_STEPS[function] * (not _is_written(operands[0]))
    elif function == "_[_]":
        cost.text[in_loop] += _INDEX_STEPS * (not _is_written(operands[1]))
    elif function in _CASES:
        cost.text[in_loop] += _CASE_STEPS
    elif function == "@in":
        cost.whole[in_loop] += not _is_written(operands[1])
    elif function == "_+_":
        cost.whole[in_loop] += not any(_is_number(operand) for operand in operands)
    elif function in _COMPARISONS:
        cost.whole[in_loop] += not any(_is_written(operand) for operand in operands)
    for operand in operands:
        _walk(operand, cost, in_loop=in_loop)


def _check_zone(function: str, operands: list[bytes]) -> None:
    for operand in operands:
        written = _one(_one(operand, 3), 6)
        if _ZONE.fullmatch(written) is None:
            raise ValueError(f"{function}() takes a time zone as it is written, such as 'Europe/Berlin' or '+02:00'")


def _loop(loop: bytes, cost: Cost, *, in_loop: bool) -> None:
    if in_loop:
        raise ValueError("one of all(), exists(), exists_one() and filter() stands inside another: write it beside it")
    cost.loops += 1
    _walk(_one(loop, 2), cost, in_loop=False)  # what it goes over
    variable = _one(loop, 1)
    if _all(_one(loop, 4), 7):  # it makes a list, which is copied in every round
        cost.whole[1] += 1
        if not _filters(_one(loop, 6), variable):
            raise ValueError("map() is not allowed: use filter(), or say it of each with all() or exists()")
    for part in (5, 6, 7):
        _walk(_one(loop, part), cost, in_loop=True)


def _filters(step: bytes, variable: bytes) -> bool:
    """Whether a step of a loop adds nothing but its own element to the list that it makes."""
    added = [element for call in _calls(step) for listed in _all(call, 7) for element in _all(listed, 1)]
    return [_one(_one(element, 4), 1) for element in added] == [variable]


def _calls(expr: bytes) -> Iterator[bytes]:
    """Yield an expression and the operands of its calls, down to what is no call; a filter's step is nothing else."""
    yield expr
    for call in _all(expr, 6):
        if _one(call, 2) in (b"_+_", b"_?_:_"):
            for operand in _all(call, 3):
                yield from _calls(operand)


def _is_written(expr: bytes) -> bool:
    """Whether it is a literal, or a list of them: then nothing longer is compared."""
    return bool(_all(expr, 3)) or any(all(_all(element, 3) for element in _all(listed, 1)) for listed in _all(expr, 7))


def _is_number(expr: bytes) -> bool:
    return any(number in (3, 4, 5) for constant in _all(expr, 3) for number, _ in _fields(constant))


# --- the wire format ------------------------------------------------------------------------------------------------


def _all(message: bytes, number: int) -> list[bytes]:
    return [body for found, body in _fields(message) if found == number]


def _one(message: bytes, number: int) -> bytes:
    return next((body for found, body in _fields(message) if found == number), b"")


def _fields(message: bytes) -> Sequence[tuple[int, bytes]]:
    """Return a message's fields by number; of a number, no more than that it is there."""
    fields: list[tuple[int, bytes]] = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(message, at)
        elif kind == 0:
            begin = at
            _, at = _varint(message, at)
            at, length = begin, at - begin
        else:
            length = 8 if kind == 1 else 4
        fields.append((tag >> 3, message[at : at + length]))
        at += length
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
