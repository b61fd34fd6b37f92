"""Globs of tool names and event types: `crm_*`, `contact.*`, `*`.

Anchored at both ends and case-sensitive; `*` is any run of characters, also none, also across dots; nothing
else is special. Matched by hand, not through a regular expression: there is nothing to inject, and the time
is bounded by length of pattern x length of name whatever the pattern.
"""

from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=65_536)  # a few patterns meet the same names again and again
def matches(pattern: str, name: str) -> bool:
    """Whether the whole of `name` fits `pattern`."""
    if "*" not in pattern:
        return pattern == name
    head, *middle, tail = pattern.split("*")
    at, end = len(head), len(name) - len(tail)
    if at > end or not name.startswith(head) or not name.endswith(tail):
        return False
    # The leftmost place for each part leaves the most for those after it, so there is never a reason to go back.
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Whether `name` fits one of `patterns`."""
    return any(matches(pattern, name) for pattern in patterns)


def permits(allowed: Iterable[str], denied: Iterable[str], name: str) -> bool:
    """Whether `name` is allowed: a denial wins over any permission, and what nobody allows is denied."""
    return not matches_any(denied, name) and matches_any(allowed, name)
