from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DecodeError
from streams.cloudevents import CloudEvent, Mode, from_record, load_json, to_draft
from streams.log import Draft, Headers, Record
from streams.rfc3339 import EARLIEST_MS, LATEST_MS, format_time, parse_time

CONFORMANCE = Path(__file__).parents[3] / "shared/data/cloudevents"
NOW = 1_700_000_000_000
STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)
REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def record(value: bytes | None, headers: Headers) -> Record:
    return Record("module.events", 0, 5, NOW, b"key", value, headers)


def stored(draft: Draft) -> Record:
    return record(draft.value, draft.headers)


def binary(value: bytes | None = None, **attributes: str) -> Record:
    content_type = attributes.pop("content_type", None)
    headers = [("ce_" + name, text.encode()) for name, text in {**REQUIRED, **attributes}.items()]
    if content_type is not None:
        headers.append(("content-type", content_type.encode()))
    return record(value, tuple(headers))


def structured(**members: object) -> Record:
    return record(orjson.dumps({**REQUIRED, **members}), STRUCTURED)


# --- the specification's own conformance files


def conformance(name: str) -> str:
    path = CONFORMANCE / name
    if not path.exists():
        pytest.skip(f"the specification's conformance files are not at {CONFORMANCE}")
    return path.read_text()


def scenarios() -> Iterator[tuple[str, list[str]]]:
    """The scenarios of the feature file: title and lines, an outline once for each of its examples."""
    path = CONFORMANCE / "kafka-protocol-binding.feature"
    if not path.exists():
        return
    for part in path.read_text().split("Scenario")[1:]:
        title, *lines = part.splitlines()
        body, _, examples = "\n".join(lines).partition("Examples:")
        rows = [line.strip().strip("|").split("|") for line in examples.splitlines() if "|" in line]
        for values in rows[1:] or [[]]:
            filled = body
            for name, value in zip(rows[0] if rows else [], values, strict=False):
                filled = filled.replace(f"<{name.strip()}>", value.strip())
            yield title.partition(":")[2].strip() + "".join(values), filled.splitlines()


def sections(lines: list[str]) -> dict[str, Any]:
    """What stands below each step: a table as a dict, a quoted text as bytes."""
    found: dict[str, Any] = {}
    step, quoted = "", False
    for raw in lines:
        line = raw.strip()
        if line == '"""':
            quoted = not quoted
            found.setdefault(step, b"")
        elif quoted:
            found[step] += line.encode() + b"\n"
        elif line.startswith("|"):
            key, value = (cell.strip() for cell in line.strip("|").split("|"))
            if key != "key":
                found.setdefault(step, {})[key] = value
        else:
            step = line
    return found


@pytest.mark.parametrize(("title", "lines"), list(scenarios()) or [("none", [])], ids=lambda p: str(p)[:40])
def test_the_kafka_binding_s_scenarios_pass(title: str, lines: list[str]) -> None:
    conformance("kafka-protocol-binding.feature")
    given_ = sections(lines)
    headers = tuple((name, text.encode()) for name, text in given_["And Kafka headers:"].items())
    event = from_record(record(given_["Given a Kafka message with payload:"], headers), now=NOW)
    attributes = given_["Then the attributes are:"]
    assert event.time_ms is not None
    assert format_time(event.time_ms) == attributes.pop("time").replace("Z", ".000Z")
    assert {name: getattr(event, name) for name in attributes} == attributes
    assert event.extensions == {}
    assert event.data == orjson.loads(given_["And the data is equal to the following JSON:"])


def test_the_conformance_file_has_three_scenarios() -> None:
    conformance("kafka-protocol-binding.feature")
    assert len(list(scenarios())) == 3


@pytest.mark.parametrize("number", [0, 1])
def test_the_specification_s_samples_make_the_round_trip(number: int) -> None:
    sample = list(yaml.safe_load_all(conformance("v1.yaml")))[number]
    attributes = sample["ContextAttributes"]
    moment = attributes["time"].replace(tzinfo=UTC)
    event = CloudEvent(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        time_ms=int(moment.timestamp() * 1000),
        extensions={name: value.strip() for name, value in attributes["Extensions"].items()},
        data=orjson.loads(sample["Data"]),
        datacontenttype="application/json",
    )
    draft = to_draft(event, key=b"k", mode=sample["Mode"])
    assert from_record(stored(draft), now=0) == event
    assert event.specversion == str(attributes["specversion"])


# --- both ways

plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: name not in {"id", "source", "type", "subject", "time", "data", "dataschema", "specversion"}
)


def events(extension: st.SearchStrategy[Any]) -> st.SearchStrategy[CloudEvent]:
    json_data = st.tuples(st.sampled_from(["application/json", "text/json; charset=utf-8", "a/b+JSON"]), json_values)
    bytes_data = st.tuples(st.sampled_from(["application/octet-stream", "text/plain"]), st.binary(max_size=30))
    no_data = st.tuples(st.none(), st.none())

    def made(typed: tuple[str | None, Any], **rest: Any) -> CloudEvent:
        return CloudEvent(datacontenttype=typed[0], data=typed[1], **rest)

    return st.builds(
        made,
        json_data | bytes_data | no_data,
        id=plain, source=plain, type=plain, subject=st.none() | plain, dataschema=st.none() | plain,
        time_ms=st.integers(EARLIEST_MS, LATEST_MS), extensions=st.dictionaries(names, extension, max_size=4),
    )  # fmt: skip


@given(events(plain | st.just("")))
def test_any_event_survives_binary_mode(event: CloudEvent) -> None:
    assert from_record(stored(to_draft(event, key=None, mode="binary")), now=0) == event


@given(events(plain | st.just("") | st.booleans() | st.integers(-(2**31), 2**31 - 1)))
def test_any_event_survives_structured_mode_with_the_types_of_its_extensions(event: CloudEvent) -> None:
    assert from_record(stored(to_draft(event, key=None, mode="structured")), now=0) == event


def test_a_binary_record_looks_as_the_binding_says() -> None:
    event = CloudEvent("1", "/s", "t", "sub", 0, None, None, {"siteid": "x", "n": 7, "yes": True}, {"a": "é"})
    assert to_draft(event, key=b"k") == Draft(
        b"k",
        '{"a":"é"}'.encode(),
        (
            ("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/s"), ("ce_type", b"t"),
            ("ce_subject", b"sub"), ("ce_time", b"1970-01-01T00:00:00.000Z"),
            ("ce_siteid", b"x"), ("ce_n", b"7"), ("ce_yes", b"true"), ("content-type", b"application/json"),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize(
    ("data", "datacontenttype", "why"),
    [
        (float("nan"), None, "NaN or infinity"),
        ({"a": [1, float("-inf")]}, None, "NaN or infinity"),
        ("\ud800", None, "can't be written as JSON"),
        ({1, 2}, None, "can't be written as JSON"),
        ({"a": 1}, "text/plain", "must be bytes or a string"),
    ],
)
def test_data_that_can_t_be_sent_is_refused(mode: Mode, data: object, datacontenttype: str | None, why: str) -> None:
    event = CloudEvent("1", "/s", "t", data=data, datacontenttype=datacontenttype)
    with pytest.raises(ValueError, match=why):
        to_draft(event, key=None, mode=mode)


# --- what is read leniently, as the specification asks


def test_an_event_without_time_gets_the_time_given() -> None:
    assert from_record(binary(), now=NOW).time_ms == NOW
    assert from_record(structured(), now=NOW).time_ms == NOW


@pytest.mark.parametrize(
    "content_type", ["APPLICATION/JSON", "application/json;charset=UTF-8", "application/vnd.x+json"]
)
def test_json_is_known_by_any_of_its_content_types(content_type: str) -> None:
    assert from_record(binary(b'{"a":1}', content_type=content_type), now=0).data == {"a": 1}


def test_without_a_content_type_a_binary_event_has_bytes() -> None:
    assert from_record(binary(b'{"a":1}'), now=0).data == b'{"a":1}'


@pytest.mark.parametrize(
    "content_type", ["Application/CloudEvents+JSON", "application/cloudevents+json ; charset=utf-8"]
)
def test_structured_mode_is_known_by_its_content_type_and_headers_don_t_matter(content_type: str) -> None:
    headers = (("Content-Type", content_type.encode()), ("ce_id", b"another"), ("anything", b"\xff"))
    assert from_record(record(orjson.dumps(REQUIRED), headers), now=0).id == "1"


def test_null_members_are_absent() -> None:
    event = from_record(structured(subject=None, time=None, ext=None, data=None), now=NOW)
    assert (event.subject, event.time_ms, event.extensions, event.data) == (None, NOW, {}, None)


def test_base64_of_json_is_json_and_of_others_bytes() -> None:
    assert from_record(structured(data_base64="eyJhIjoxfQ=="), now=0).data == {"a": 1}
    assert from_record(structured(data_base64="AP8=", datacontenttype="a/b"), now=0).data == b"\x00\xff"


# --- what is refused


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_attribute_is_named(name: str) -> None:
    headers = tuple(h for h in binary().headers if h[0] != "ce_" + name)
    with pytest.raises(DecodeError, match=f"specversion|attribute '{name}' is missing"):
        from_record(record(b"", headers), now=0)
    with pytest.raises(DecodeError, match=f"attribute '{name}' is missing"):
        from_record(structured(**{name: None}), now=0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (binary(specversion="0.3"), "specversion '0.3' is not known"),
        (binary(specversion="1.1"), "specversion '1.1' is not known"),
        (binary(id=""), "'id' must not be empty"),
        (binary(id="a\x00b"), "'id' holds the character"),
        (binary(subject="x" * 1001), "'subject' has 1001 characters: 1000 are allowed"),
        (binary(type="x" * 201), "'type' has 201 characters: 200 are allowed"),
        (binary(time="yesterday"), "no RFC 3339 time"),
        (binary(time="2026-02-30T00:00:00Z"), "no time of the calendar"),
        (binary(Upper="x"), "'Upper' is no attribute's name"),
        (binary(with_line="x"), "no attribute's name"),
        (binary(None, **{"n" * 65: "x"}), "no attribute's name"),
        (binary(datacontenttype="a/b"), "has no place in binary mode"),
        (binary(ext="x" * 4097), "'ext' has 4097 characters"),
        (binary(None, **{f"e{i}": "x" for i in range(65)}), "65 extensions are too many"),
        (binary(b"{", content_type="application/json"), "not JSON"),
        (binary(b"", content_type="application/json"), "not JSON"),
        (binary(b"NaN", content_type="application/json"), "not JSON"),
        (binary(b'"\\ud800"', content_type="application/json"), "not JSON"),
        (binary(b'"\xff"', content_type="application/json"), "not JSON"),
        (binary(b"[" * 2000 + b"]" * 2000, content_type="application/json"), "not JSON"),
        (binary(b"{}", content_type="json"), "'json' is no content-type"),
        (binary(b"{}", content_type="application/json; charset=utf-16"), "charset 'utf-16' is not supported"),
        (record(b"{}", ()), "neither a header 'ce_specversion' nor a content-type"),
        (record(b"{}", (("ce_specversion", b"1.0"), ("ce_id", b"\xff"))), "'ce_id' is not UTF-8"),
        (record(b"{}", (*binary().headers, ("ce_id", b"2"))), "'ce_id' stands twice"),
        (record(b"[]", (("content-type", b"application/cloudevents-batch+json"),)), "is not supported"),
        (record(b"x", (("content-type", b"application/cloudevents+avro"),)), "is not supported"),
        (record(None, STRUCTURED), "needs a value"),
        (record(b"[]", STRUCTURED), "is a JSON object"),
        (record(b'{"id": NaN}', STRUCTURED), "not JSON"),
        (structured(id=7), "'id' must be a string, not int"),
        (structured(specversion=1.0), "specversion 1.0 is not known"),
        (structured(time=5), "'time' must be a string"),
        (structured(datacontenttype=5), "'datacontenttype' must be a string"),
        (structured(ext=1.5), "'ext' must be a string, not float"),
        (structured(ext={"a": 1}), "'ext' must be a string, not dict"),
        (structured(ext=2**31), "must be a 32-bit number"),
        (structured(data=1, data_base64="eA=="), "not both"),
        (structured(data_base64="?"), "is not base64"),
        (structured(data_base64=["eA=="]), "is not base64"),
        (structured(data={"a": 1}, datacontenttype="text/plain"), "must be a string"),
    ],
)
def test_what_is_wrong_is_said_in_words(bad: Record, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        from_record(bad, now=0)


@given(st.binary(max_size=60), st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=20)), max_size=5))
def test_no_bytes_raise_anything_but_a_decode_error(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    for more in ((), STRUCTURED, binary(content_type="application/json").headers):
        try:
            from_record(record(value, (*more, *headers)), now=0)
        except DecodeError as error:
            assert str(error).startswith("no valid CloudEvent: ")  # noqa: PT017


@given(json_values)
def test_no_json_raises_anything_but_a_decode_error(whole: object) -> None:
    try:
        from_record(record(orjson.dumps(whole), STRUCTURED), now=0)
    except DecodeError as error:
        assert str(error).startswith("no valid CloudEvent: ")  # noqa: PT017


# --- time


@given(st.integers(EARLIEST_MS, LATEST_MS))
def test_a_time_survives_its_text(at_ms: int) -> None:
    assert parse_time(format_time(at_ms)) == at_ms


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-01-24T10:30:00+01:00", "2026-01-24T09:30:00.000Z"),
        ("2026-01-24t09:30:00.1239999z", "2026-01-24T09:30:00.123Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ("1969-12-31T23:59:59.5-00:30", "1970-01-01T00:29:59.500Z"),
    ],
)
def test_times_of_any_zone_are_understood(text: str, same: str) -> None:
    assert format_time(parse_time(text)) == same


@pytest.mark.parametrize(
    "text",
    ["", "2026-01-24", "2026-01-24T09:30:00", "2026-01-24 09:30:00Z", "2026-W04-6T09:30:00Z", "0000-01-01T00:00:00Z",
     "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:60Z", "2026-01-24T09:30:61Z", "2026-01-24T24:00:00Z",
     "2026-01-24T09:30:00+24:00", "٢٠٢٦-01-24T09:30:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no RFC 3339 time|no time of the calendar|years 1 to 9999|too many seconds"):
        parse_time(text)


def test_the_reference_agrees() -> None:
    moment = datetime(2026, 1, 24, 9, 30, tzinfo=UTC)
    assert parse_time(moment.isoformat()) == moment.timestamp() * 1000


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)]),
        (b"[18446744073709551616, -9223372036854775809]", ["18446744073709551616", "-9223372036854775809"]),
        (b"[1234567890123456789.5]", [1234567890123456789.5]),
        (b'["1234567890123456789012"]', ["1234567890123456789012"]),
        (b"[" + b"9" * 300 + b"]", ["9" * 300]),
    ],
)
def test_no_integer_is_rounded(raw: bytes, told: object) -> None:
    assert load_json(raw) == told
