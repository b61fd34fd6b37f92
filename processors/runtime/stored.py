"""What stands in one partition of `ai.events`: what counts, by the command that it follows from, and what does not."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from streams.chain import Heads, stamp
from streams.log import Draft, Record
from streams.topics import is_genesis


class Stored:
    """The events of a partition, as deciding again looks for them.

    Attributes:
        last_cause: The last command offset that an event which counts names: up to there, all commands were decided.
    """

    def __init__(self, keys: Collection[bytes] | None = None) -> None:
        """Keep the streams of `keys` only, or all. What does not count is kept in any case: its key may be wrong."""
        self.last_cause = -1
        self._keys = keys
        self._heads = Heads()
        self._counted: dict[tuple[bytes, int], list[Record]] = {}
        self._waiting: Counter[bytes] = Counter()
        self._by_id: dict[bytes, list[Record]] = {}
        self._by_place: dict[tuple[bytes, int], list[Record]] = {}

    def add(self, record: Record) -> None:
        """Take the next record of the partition."""
        if record.key is None and is_genesis(record):
            return
        if not self._heads.admit(record):
            self._set_aside(record)
            return
        cause = cause_of(record)
        self.last_cause = max(self.last_cause, cause)
        if record.key is not None and (self._keys is None or record.key in self._keys):
            self._counted.setdefault((record.key, cause), []).append(record)
            self._waiting[record.key] += 1

    def before(self, offset: int) -> Iterator[Record]:
        """Take out what counts and follows from commands before `offset`, each stream in its order."""
        for place in [place for place in self._counted if place[1] < offset]:
            yield from self.take(*place)

    def take(self, key: bytes, offset: int) -> Sequence[Record]:
        """Take out what counts of a stream and follows from the command at `offset`."""
        found = self._counted.pop((key, offset), [])
        self._waiting[key] -= len(found)
        return found

    def goes_on(self, key: bytes) -> bool:
        """Whether there is more of a stream that counts and was not taken out."""
        return self._waiting[key] > 0

    def left(self, end: int) -> Iterator[Record]:
        """Return what was not taken out and follows from commands before `end`, in the order of the log."""
        found = (record for (_, cause), records in self._counted.items() if cause < end for record in records)
        yield from sorted(found, key=lambda record: record.offset)

    def standing(self, drafts: Sequence[Draft], counted: Sequence[Record]) -> list[Record | None]:
        """Return the record that stands in the place of each draft; where none counts, one that seems to be meant."""
        found: list[Record | None] = list(counted[: len(drafts)])
        found += [self._like(draft) for draft in drafts[len(found) :]]
        return found

    def _set_aside(self, record: Record) -> None:
        if (id_ := record.header("ce_id")) is not None:
            self._by_id.setdefault(id_, []).append(record)
        if (claimed := stamp(record.headers)) is not None and record.key is not None:
            self._by_place.setdefault((record.key, claimed[0]), []).append(record)

    def _like(self, draft: Draft) -> Record | None:
        headers = dict(draft.headers)
        claimed = stamp(draft.headers)
        place = (draft.key or b"", claimed[0] if claimed is not None else 0)
        same_id = self._by_id.get(headers.get("ce_id", b""), [])
        cause = headers.get("ce_causationid")
        same_place = [r for r in self._by_place.get(place, ()) if r.header("ce_causationid") == cause]
        candidates = [*same_id, *same_place]
        whole = (r for r in candidates if (r.key, r.value, tuple(r.headers)) == (draft.key, draft.value, draft.headers))
        return next(whole, next(iter(candidates), None))


def cause_of(record: Record) -> int:
    """Return the offset of the command that a record which counts follows from; -1 where that can't be read."""
    raw = record.header("ce_causationoffset") or b""
    return int(raw) if raw.isdigit() else -1
