"""How many series are kept: of each rule only so many, the longest unheard of first to go."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_KEYS = 50_000  # of one rule, in all partitions together: at some 700 bytes each, 35 MB
SWEEP_EVERY = 1_000  # observations; series of rules that hear nothing any more go then


class Heard(NamedTuple):
    """When a series was last heard of, by the broker's clock, and for how long after that it matters; in ms."""

    at_ms: int
    kept_ms: int


@dataclass(slots=True)
class Keys:
    """The series of one partition, by rule, in the order in which they were last heard of."""

    limit: int
    rules: dict[str, "OrderedDict[bytes, Heard]"] = field(default_factory=dict)
    evicted: int = 0
    expired: int = 0
    _touched: int = 0

    def note(self, rule: str, series: bytes, heard: Heard) -> None:
        """Note a series that is there, those last heard of last."""
        self.rules.setdefault(rule, OrderedDict())[series] = heard

    def touch(self, rule: str, series: bytes, heard: Heard) -> list[bytes]:
        """Note that a series was heard of; return those to be forgotten."""
        kept = self.rules.setdefault(rule, OrderedDict())
        kept[series] = heard
        kept.move_to_end(series)
        gone: list[bytes] = []
        while len(kept) > self.limit:
            gone.append(kept.popitem(last=False)[0])
            self.evicted += 1
        self._touched += 1
        if self._touched % SWEEP_EVERY == 0:
            for name in list(self.rules):
                gone += self._expire(name, heard.at_ms)
        else:
            gone += self._expire(rule, heard.at_ms)
        return gone

    def _expire(self, rule: str, now_ms: int) -> list[bytes]:
        kept, gone = self.rules[rule], list[bytes]()
        while kept:
            series, heard = next(iter(kept.items()))
            if heard.at_ms + heard.kept_ms >= now_ms:
                return gone
            del kept[series]
            gone.append(series)
            self.expired += 1
        del self.rules[rule]
        return gone
