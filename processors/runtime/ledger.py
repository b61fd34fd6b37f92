"""A memory of what was handled, that forgets by the hour."""

import hashlib
from dataclasses import dataclass, field

HOUR_MS = 3_600_000


def fingerprint(*names: str) -> int:
    """Return 8 bytes of the sha256 of `names`, as a number."""
    digest = hashlib.sha256()
    for name in names:
        raw = name.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return int.from_bytes(digest.digest()[:8], "big")


@dataclass(slots=True)
class Ledger:
    """Fingerprints, each remembered at least until its time and forgotten at the full hour after it.

    Whole hours make forgetting cheap, and still a function of the log alone.
    """

    _until_hour: dict[int, int] = field(default_factory=dict)
    _buckets: dict[int, list[int]] = field(default_factory=dict)

    def remembers(self, print_: int, at_ms: int) -> bool:
        """Whether the fingerprint is remembered at `at_ms`."""
        until = self._until_hour.get(print_)
        return until is not None and until > at_ms // HOUR_MS

    def remember(self, print_: int, until_ms: int, at_ms: int) -> None:
        """Remember a fingerprint until `until_ms`, and forget what is over at `at_ms`."""
        hour = until_ms // HOUR_MS + 1
        for over in [bucket for bucket in self._buckets if bucket <= at_ms // HOUR_MS]:
            for old in self._buckets.pop(over):
                if self._until_hour.get(old) == over:
                    del self._until_hour[old]
        self._until_hour[print_] = hour
        self._buckets.setdefault(hour, []).append(print_)

    def __len__(self) -> int:
        return len(self._until_hour)
