"""What `dramac publish` makes of a file, before anything is sent."""

import re

import orjson
import pytest

from infra.cli.publish import Ready, parse_events
from schemas.errors import ConfigurationError
from schemas.ids import UUID_PATTERN, SiteId
from schemas.message import Json
from streams.log import Draft

SITE = SiteId("5d9c3f0a-6a0e-4f43-9c0e-2b1d6a7f1c11")
OTHER_SITE = "0f8fad5b-d9cb-469f-a165-70867728950e"
NOW_MS = 1_769_247_000_123
CREATED = b'{"type":"crm.contact.created","data":{"n":1}}'
WHOLE = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/crm",
    "type": "crm.contact.created",
    "time": "2026-01-01T00:00:00Z",
    "siteid": OTHER_SITE,
    "subject": "c-9",
    "data": None,
}


def parse(raw: bytes) -> list[Ready]:
    return parse_events(raw, site_id=SITE, now_ms=NOW_MS)


def header(draft: Draft, name: str) -> str | None:
    return next((content.decode() for header, content in draft.headers if header == name), None)


def test_what_is_missing_is_filled_in() -> None:
    (ready,) = parse(CREATED)
    assert (ready.event.type, ready.event.source, ready.event.specversion) == ("crm.contact.created", "/cli", "1.0")
    assert ready.event.time_ms == NOW_MS
    assert ready.event.extensions == {"siteid": SITE}
    assert UUID_PATTERN.fullmatch(ready.event.id)
    assert ready.draft.value == b'{"n":1}'
    assert ready.draft.key == SITE.encode()


def test_what_is_there_is_kept() -> None:
    (ready,) = parse(orjson.dumps(WHOLE))
    assert (ready.event.id, ready.event.source) == ("e-1", "/crm")
    assert header(ready.draft, "ce_siteid") == OTHER_SITE
    assert ready.event.time_ms == 1_767_225_600_000
    assert ready.draft.key == b"c-9"


def test_ids_are_fresh() -> None:
    assert len({ready.event.id for ready in parse(CREATED + b"\n" + CREATED)}) == 2


@pytest.mark.parametrize(
    "raw",
    [
        CREATED + b"\n" + CREATED,
        b"\n\n" + CREATED + b"\r\n  \n" + CREATED + b"\n\n",
        b"[" + CREATED + b",\n" + CREATED + b"]\n",
        b"\xef\xbb\xbf" + CREATED + b"\n" + CREATED + b"\n",
    ],
)
def test_lines_and_arrays_are_read(raw: bytes) -> None:
    assert [ready.event.type for ready in parse(raw)] == ["crm.contact.created"] * 2


def test_one_event_may_stand_on_many_lines() -> None:
    assert len(parse(orjson.dumps(WHOLE, option=orjson.OPT_INDENT_2))) == 1


@pytest.mark.parametrize("raw", [b"", b"\n", b"[]"])
def test_no_events_are_none(raw: bytes) -> None:
    assert parse(raw) == []


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (CREATED + b"\n\n{", "line 3: not JSON"),
        (CREATED + b"\n7", "line 2: an event is a JSON object"),
        (CREATED + b'\n{"data":1}', "line 2: .*'type' is missing"),
        (b'{"type":""}', "line 1: .*'type' must not be empty"),
        (b'{"type":"a","siteid":"here"}', "line 1: 'here' is not a UUID"),
        (b'{"type":"a","time":"yesterday"}', "line 1: "),
        (b'{"type":"a","specversion":"0.3"}', "line 1: .*specversion"),
        (b'{"type":"a","No":"b"}', "line 1: .*no attribute's name"),
        (b'[{"type":"a"},{"type":7}]', "event 2 of the array: .*'type' must be a string"),
        (b"7", "line 1: an event is a JSON object"),
        (b"\xff\xfe", "line 1: not JSON"),
    ],
)
def test_a_wrong_event_is_named(raw: bytes, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told + ".*nothing was published") as error:
        parse(raw)
    assert not re.search(r"\n", str(error.value))


@pytest.mark.parametrize("data", [1, "text", [1, None], {"a": {"b": 2}}, None])
def test_any_json_is_data(data: Json) -> None:
    (ready,) = parse(orjson.dumps({"type": "a", "data": data}))
    assert ready.draft.value == (None if data is None else orjson.dumps(data))
