"""The same log once more: folded from its start, folded from its newest image, and decided again byte for byte."""

from collections.abc import Iterator

from processors.runtime.checkpoints import Checkpoints
from processors.runtime.decision import apply, decision_of
from processors.runtime.reading import asked
from processors.runtime.stream import Stream
from schemas.errors import DecodeError
from streams.log import Draft
from streams.topics import COMMANDS, EVENTS
from tests.simulation.facts import Facts
from tests.simulation.observer import Observer, fold
from tests.simulation.world import World

INTERNAL = ("command.rejected", "agent.trigger_skipped")  # with reason `internal`: the decider failed


def other_states(world: World, facts: Facts) -> Iterator[str]:
    """Tell where the owners' live state, or that of an image with what followed it, is not the fold of the log."""
    true = Observer(world.broker).look()
    for partition in range(world.scenario.partitions):
        keys = {r.key for r in world.broker.records(EVENTS, partition)}
        here = {key: stream for key, stream in true.items() if key in keys}
        for slot in world.slots:
            if slot.worker is not None and partition in slot.worker.partitions:
                live = slot.worker.partitions[partition].streams
                yield from _compare(f"the live state of partition {partition}", live, here)
        image = world.loop.run(Checkpoints(world.broker, partition).newest())
        if image is not None:
            streams = image.streams
            for record in world.broker.read(EVENTS, partition, image.end.events_offset, 1_000_000):
                fold(streams, record)
            yield from _compare(f"the image at {image.end.events_offset} of partition {partition}", streams, here)


def _compare(what: str, found: dict[bytes, Stream], true: dict[bytes, Stream]) -> Iterator[str]:
    # A stream without events is one whose first command came to nothing: only its owner remembers that.
    found = {key: stream for key, stream in found.items() if stream.head.sequence}
    for key in found.keys() | true.keys():
        if (one := found.get(key)) != (other := true.get(key)):
            heads = one and one.head.sequence, other and other.head.sequence
            yield f"{what}: the stream {key!r} is at {heads[0]}, the log at {heads[1]}, and their states differ"


def differences(world: World, facts: Facts) -> Iterator[str]:
    """Tell where deciding again over the command log gives other bytes. What was decided as `internal` is given."""
    for partition in range(world.scenario.partitions):
        streams: dict[bytes, Stream] = {}
        for record in world.broker.records(COMMANDS, partition):
            try:
                found = asked(streams, record)
            except DecodeError:
                continue
            if found is None:
                continue
            stream, envelope = found
            stands = facts.by_cause[partition, record.offset]
            internal = any(event.type in INTERNAL and event.data["reason"] == "internal" for event in stands)
            decided = decision_of(stream, envelope, internal=internal)
            drafts = [Draft(event.record.key, event.record.value, event.record.headers) for event in stands]
            if drafts != list(decided.drafts):
                types = [event.type for event in stands], [type(event).__name__ for event in decided.events]
                yield f"command {partition}/{record.offset} {envelope.command.wire} led to {types[0]}, again {types[1]}"
                return
            apply(stream, envelope, decided)
