"""Counts the observations of the partitions that a process holds, in a table that outlives it."""

import logging
from collections.abc import MutableMapping

from processors.signals.keys import MAX_KEYS, Heard, Keys
from processors.signals.observations import Observation
from processors.signals.observations import decode as decode_observation
from processors.signals.series import Outcome, Place, decode, kept_ms, observe, rule_name
from processors.signals.signal import signal_event
from streams.log import Draft, Record
from streams.partitioner import partition_of

logger = logging.getLogger(__name__)

POSITION = b"position:"  # with the partition's number after it, the key of the offset behind what was counted there
TOLD_EVERY = 1_000  # evictions: each thousandth is told, the others are only counted


class Counting:
    """What this process counts. A table of another process's partitions is never touched."""

    def __init__(self, table: MutableMapping[bytes, bytes], partitions: int, max_keys: int = MAX_KEYS) -> None:
        """Count into `table`, Faust's or a dict; `partitions` is how many there are of observations."""
        self._table = table
        self._partitions = partitions
        self._max_keys = max(1, max_keys // partitions)
        self._keys: dict[int, Keys] | None = None
        self.verdicts: dict[str, int] = {}

    @property
    def evicted(self) -> int:
        """How many series were forgotten because their rules had too many."""
        return sum(keys.evicted for keys in (self._keys or {}).values())

    def moved(self) -> None:
        """Say that other partitions are held now: what the table holds is looked at anew."""
        self._keys = None

    def position(self, partition: int) -> int:
        """Return the offset of the first record of a partition that was not counted yet.

        It lies in the table, with what was counted: whoever delivers the records may repeat or leave out some.
        """
        return int(self._table.get(POSITION + str(partition).encode(), b"0"))

    def done(self, record: Record) -> None:
        """Say that all is done that follows from a record: the position is behind it now."""
        self._table[POSITION + str(record.partition).encode()] = str(record.offset + 1).encode()

    def take(self, record: Record) -> Draft | None:
        """Count one record of observations; return the signal that it raises.

        Raises:
            DecodeError: it is no observation.
            ValueError: no signal can be made of it.
        """
        seen = decode_observation(record.key, record.value)
        series, place = seen.series.encode(), Place(record.offset, record.at_ms)
        outcome = self._observe(series, seen, place)
        self.verdicts[outcome.verdict] = self.verdicts.get(outcome.verdict, 0) + 1
        signal = None if outcome.raised is None else signal_event(seen, outcome.raised)
        if outcome.stored is not None:
            self._table[series] = outcome.stored
            self._bound(record.partition, series, rule_name(seen), Heard(place.at_ms, kept_ms(seen)))
        return signal

    def _observe(self, series: bytes, seen: Observation, place: Place) -> Outcome:
        try:
            return observe(self._table.get(series), seen, place)
        except ValueError as error:  # of another release: what it counted is lost, not what comes
            logger.warning("a series is counted anew: %s", error)
            return observe(None, seen, place)

    def _bound(self, partition: int, series: bytes, rule: str, heard: Heard) -> None:
        if self._keys is None:
            self._keys = self._look()
        keys = self._keys.setdefault(partition, Keys(self._max_keys))
        before = keys.evicted // TOLD_EVERY
        for gone in keys.touch(rule, series, heard):
            if gone in self._table:
                del self._table[gone]
        if keys.evicted // TOLD_EVERY > before:
            logger.warning("%d keys of rules with more than %d were forgotten", keys.evicted, self._max_keys)

    def _look(self) -> dict[int, Keys]:
        """Return the keys of what the table holds, the longest unheard of first."""
        found: list[tuple[Place, str, bytes, int]] = []
        for series, stored in self._table.items():
            if series.startswith(POSITION):
                continue
            try:
                kept = decode(stored)
            except ValueError:
                continue  # told when it is met
            found.append((kept.last, kept.rule, series, kept.kept_ms))
        keys: dict[int, Keys] = {}
        for last, rule, series, matters_ms in sorted(found):
            of_partition = keys.setdefault(partition_of(series, self._partitions), Keys(self._max_keys))
            of_partition.note(rule, series, Heard(last.at_ms, matters_ms))
        return keys
