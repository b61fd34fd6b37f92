"""The golden test: what stands in the log can be read for ever.

It freezes every wire name with its JSON Schema, and some records byte for byte, headers and chain included. If it
fails, you changed what is already in somebody's log. Do this instead:

* a new command or event: add it, then `DRAMAC_GOLDEN=write pytest tests/schemas/test_wire_format.py` adds it here too;
* a new field of an event: raise the event's `version`, add an upcaster (schemas/upcasters.py) that lifts the version
  before, and write again: the old version's schema stays here, and a test reads its example through the upcaster;
* never rename, never remove, never change the meaning. Writing refuses to change what is frozen: records, the schema of
  an event's version. A command's schema may only grow, by fields with a default (commands are kept for 30 days): take
  its schema and its record out of the golden files, and put the record into older_command_records.json, to stay.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from schemas.commands import COMMANDS
from schemas.events import EVENTS
from schemas.upcasters import UPCASTERS
from streams.chain import Heads, link
from streams.log import Draft, Headers, Record
from streams.records import decode_command, decode_event
from streams.topics import COMMANDS as COMMANDS_TOPIC
from streams.topics import EVENTS as EVENTS_TOPIC
from tests.schemas.wire_examples import Example, command_examples, event_examples

GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("DRAMAC_GOLDEN") == "write"

Json = dict[str, Any]


def schema_of(model: Any, mode: str) -> Json:
    """Return a model's JSON Schema without what is only for people."""
    bare = _bare(model.model_json_schema(mode=mode), names=False)
    assert isinstance(bare, dict)
    return bare


def _bare(node: Any, *, names: bool) -> Any:
    """Drop titles and descriptions; where keys are `names` of fields, all are kept."""
    if isinstance(node, list):
        return [_bare(item, names=False) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _bare(value, names=not names and key in ("properties", "$defs"))
        for key, value in node.items()
        if names or key not in ("title", "description")
    }


def frozen(name: str, now: Json) -> Json:
    """Return what is frozen under `name`; with DRAMAC_GOLDEN=write, what is new is added to it first."""
    path = GOLDEN / f"{name}.json"
    before: Json = json.loads(path.read_text()) if path.exists() else {}
    if WRITE and (added := {key: value for key, value in now.items() if key not in before}):
        before |= added
        path.write_text(json.dumps(dict(sorted(before.items())), indent=1, ensure_ascii=False) + "\n")
    return before


EVENT_SCHEMAS = {f"{wire} {event.version}": schema_of(event, "serialization") for wire, event in EVENTS.items()}
COMMAND_SCHEMAS = {wire: schema_of(command, "validation") for wire, command in COMMANDS.items()}


@pytest.mark.parametrize("key", sorted(EVENT_SCHEMAS))
def test_a_version_of_an_event_never_changes(key: str) -> None:
    known = frozen("events", EVENT_SCHEMAS)
    assert key in known, f"{key!r} is not frozen yet: run with DRAMAC_GOLDEN=write"
    assert EVENT_SCHEMAS[key] == known[key], f"{key!r} stands in logs: raise its version and lift the old one"


def test_no_event_ever_goes_away() -> None:
    wires = {key.split(" ")[0] for key in frozen("events", EVENT_SCHEMAS)}
    assert wires - set(EVENTS) == set()


def test_every_older_version_of_an_event_is_lifted() -> None:
    for key in frozen("events", EVENT_SCHEMAS):
        wire, version = key.split(" ")
        for step in range(int(version), EVENTS[wire].version):
            assert (wire, step) in UPCASTERS, f"nothing lifts {wire!r} from version {step}"


@pytest.mark.parametrize("wire", sorted(COMMAND_SCHEMAS))
def test_what_was_a_command_is_still_one(wire: str) -> None:
    known = frozen("commands", COMMAND_SCHEMAS)
    assert wire in known, f"{wire!r} is not frozen yet: run with DRAMAC_GOLDEN=write"
    assert COMMAND_SCHEMAS[wire] == known[wire], f"{wire!r} stands in logs: see above how to change it"


def test_no_command_ever_goes_away() -> None:
    assert set(frozen("commands", COMMAND_SCHEMAS)) - set(COMMANDS) == set()


def test_a_wire_name_is_that_of_its_class_alone() -> None:
    assert all(event.wire == wire for wire, event in EVENTS.items())
    assert all(command.wire == wire for wire, command in COMMANDS.items())
    assert not set(EVENTS) & set(COMMANDS)


# --- bytes ----------------------------------------------------------------------------------------------------------


def as_text(draft: Draft) -> Json:
    """Return a record as it is frozen: all our bytes are UTF-8."""
    return {
        "key": (draft.key or b"").decode(),
        "headers": [[name, value.decode()] for name, value in draft.headers],
        "value": (draft.value or b"").decode(),
    }


def as_record(topic: str, offset: int, text: Json) -> Record:
    headers: Headers = tuple((name, value.encode()) for name, value in text["headers"])
    return Record(topic, 0, offset, 1_769_247_000_123, text["key"].encode(), text["value"].encode(), headers)


def frozen_records(name: str, examples: dict[str, Example]) -> Json:
    return frozen(name, {key: as_text(example.draft) for key, example in examples.items()})


@pytest.mark.parametrize("wire", sorted(COMMANDS))
def test_a_command_is_written_as_ever(wire: str) -> None:
    examples = command_examples()
    assert as_text(examples[wire].draft) == frozen_records("command_records", examples)[wire]


@pytest.mark.parametrize("key", sorted(EVENT_SCHEMAS))
def test_an_event_is_written_as_ever(key: str) -> None:
    examples = event_examples()
    assert as_text(examples[key].draft) == frozen_records("event_records", examples)[key]


@pytest.mark.parametrize("wire", sorted(COMMANDS))
def test_a_command_that_was_ever_written_can_be_read(wire: str) -> None:
    examples = command_examples()
    record = as_record(COMMANDS_TOPIC, 7, frozen_records("command_records", examples)[wire])
    envelope = decode_command(record)
    assert envelope.command == examples[wire].payload
    assert (envelope.actor, envelope.correlation_id, envelope.offset) == ("user:änn", "corr-1", 7)


def test_a_command_of_an_earlier_form_can_be_read() -> None:
    older: Json = json.loads((GOLDEN / "older_command_records.json").read_text())
    for key, text in older.items():
        command = decode_command(as_record(COMMANDS_TOPIC, 7, text)).command
        assert command.wire == key.split(" ")[0]
        told, written = command.model_dump(mode="json"), json.loads(text["value"])
        for field, value in written.items():
            assert _as_far_as_told(told[field], value) == value


def _as_far_as_told(now: Any, told: Any) -> Any:
    """Return `now` without the fields that `told` does not have."""
    if isinstance(now, dict):
        return {key: _as_far_as_told(value, told[key]) for key, value in now.items() if key in told}
    if isinstance(now, list):
        return [_as_far_as_told(value, other) for value, other in zip(now, told, strict=True)]
    return now


def test_every_event_that_was_ever_written_can_be_read_and_counts() -> None:
    examples = event_examples()
    for key, text in frozen_records("event_records", examples).items():
        wire, version = key.split(" ")
        record = as_record(EVENTS_TOPIC, 0, text)
        assert Heads().admit(record), f"{key!r} does not begin its chain any more"
        envelope = decode_event(record)
        assert (envelope.type, envelope.schema_version) == (wire, int(version))
        if key in examples:
            assert envelope.event == examples[key].payload
            assert (envelope.at_ms, envelope.causation_offset) == (1_769_247_000_123, 41)


def test_the_chain_of_a_fixed_record_is_this_one() -> None:
    headers = (("ce_type", b"ai.agent.created"), ("ce_id", b"1"), ("ce_chain", b"left out"))
    first = link(b"\x00" * 32, b"key", headers, b'{"a":1}')
    assert first.hex() == "606e6d5a0760774243b17b095b2028ab27ec28bc5c0f8d6bcd5715a16ad109fc"
    assert link(b"\x00" * 32, b"key", headers[::-1], b'{"a":1}') == first
    assert link(first, None, (), None).hex() == "d7a494e8a2ba43a5d863c187e889f48e2f2d4ffa6fd3c78c4da067777ef78ff3"
