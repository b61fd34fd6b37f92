"""A memory of what was handled, that forgets by the hour."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

HOUR_MS = 3_600_000


@lru_cache(maxsize=1024)  # asked for when deciding, and again when evolving
def fingerprint(*names: str) -> int:
    """Return 8 bytes of the sha256 of `names`, as a number."""
    parts = []
    for name in names:
        raw = name.encode("utf-8", "surrogatepass")
        parts.append(len(raw).to_bytes(4, "big"))
        parts.append(raw)
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest()[:8], "big")


@dataclass(slots=True)
class Ledger:
    """Fingerprints, each remembered at least until its time and forgotten at the full hour after it.

    Whole hours make forgetting cheap, and still a function of the log alone. `buckets` holds the fingerprints by the
    hour in which they are forgotten; the index follows from it.
    """

    buckets: dict[int, list[int]] = field(default_factory=dict)
    _until_hour: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, buckets: Iterable[tuple[int, list[int]]]) -> "Ledger":
        """Return the ledger with these buckets."""
        ledger = cls(dict(buckets))
        for hour in sorted(ledger.buckets):
            for print_ in ledger.buckets[hour]:
                ledger._until_hour[print_] = hour
        return ledger

    def remembers(self, print_: int, at_ms: int) -> bool:
        """Whether the fingerprint is remembered at `at_ms`."""
        until = self._until_hour.get(print_)
        return until is not None and until > at_ms // HOUR_MS

    def remember(self, print_: int, until_ms: int, at_ms: int) -> None:
        """Remember a fingerprint until `until_ms` or longer, and forget what is over at `at_ms`."""
        self._forget(at_ms // HOUR_MS)
        hour = until_ms // HOUR_MS + 1
        if self._until_hour.get(print_, 0) < hour:
            self._until_hour[print_] = hour
            self.buckets.setdefault(hour, []).append(print_)

    def _forget(self, hour: int) -> None:
        for over in [bucket for bucket in self.buckets if bucket <= hour]:
            for old in self.buckets.pop(over):
                if self._until_hour.get(old) == over:
                    del self._until_hour[old]

    def __len__(self) -> int:
        return len(self._until_hour)
