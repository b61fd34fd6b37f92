"""What an audit of an invariant found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

TOLD_VIOLATIONS = 50  # of each invariant; the number of all is in the counts


@dataclass(slots=True)
class Finding:
    """One invariant of docs/audit.md: what was counted, and where it does not hold."""

    id: str
    about: str
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    more: int = 0  # violations that are not told

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.violations

    def violated(self, why: str) -> None:
        """Note a violation."""
        if len(self.violations) < TOLD_VIOLATIONS:
            self.violations.append(why)
        else:
            self.more += 1

    def add(self, other: "Finding") -> None:
        """Add what was found of the same invariant elsewhere."""
        self.count(other.counts)
        for why in other.violations:
            self.violated(why)
        self.more += other.more

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to the counts."""
        for name, number in counts.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"ok": self.ok, **asdict(self)}
