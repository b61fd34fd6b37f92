"""A partition's state survives as an image, down to the last field; and its form is frozen with its version.

If `test_the_state_is_the_one_of_its_version` fails, you changed what images hold: fields of a state, what `evolve`
makes of an event, or the form of an image. Raise STATE_VERSION in processors/runtime/images.py, so that images of the
release before are passed over, then run `DRAMAC_GOLDEN=write pytest tests/processors/test_images.py`. Writing refuses
to change what is frozen under the same version.
"""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from processors.executions.risk import APPROVAL_MS
from processors.runtime import images
from processors.runtime.images import STATE_VERSION, Image, read_image, take_image
from processors.runtime.ledger import HOUR_MS, fingerprint
from processors.runtime.reading import fold
from processors.runtime.stream import Stream
from schemas.catalogue import Catalogue
from schemas.commands import RecalledMemory
from schemas.errors import DecodeError
from schemas.governance import Requester, RiskRule, SiteGrants
from schemas.ids import agent_id_of
from schemas.message import Json
from streams.log import Record
from streams.topics import EVENTS
from tests.processors.asks import (
    ACTIVE,
    THINKING,
    activate,
    approve,
    call,
    context,
    create,
    expire,
    result,
    start,
    thought,
    update,
)
from tests.processors.random_asks import Said, stories
from tests.processors.samples import AGENT, APPROVING, SITE, START_MS, USER, config, tool
from tests.processors.spec import Spec
from tests.processors.test_run_properties import bounded, told
from tests.processors.told import whole_run
from tests.schemas.test_wire_format import _bare

GOLDEN = Path(__file__).parent / "golden" / "state.json"

NASTY = "nul \x00, 𝄞 and 👩‍👩‍👧, \u2028 \u2029 \r\n \x85 \x1e, \\ud800, \ufffe, ﷽ \t\x7f"
HUGE: Json = {"ints": [2**63, 2**64, -(2**200), 10**300], "floats": [1e308, 5e-324, -0.0, 0.1], "": [None, {}, [[]]]}

texts = st.text(st.characters(codec="utf-8"), max_size=30)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def read(image: Image, *, without: str = "") -> dict[bytes, Stream]:
    """Return what an image holds, as if a blob had been lost."""
    buckets = {name: blob for name, blob in image.buckets.items() if name != without}
    return read_image(b"".join(chunk for _, chunk in image.core), buckets)


def one(spec: Spec) -> dict[bytes, Stream]:
    return {AGENT.encode(): spec.stream}


def bucketed(hours: int, prints: int) -> Stream:
    """Return a stream that remembers so many triggers in each of so many hours."""
    stream = Stream.empty(AGENT, SITE)
    for hour in range(1, hours + 1):
        for number in range(prints):
            until_ms = START_MS + hour * HOUR_MS
            stream.agent.triggers.remember(fingerprint(str(hour), str(number)), until_ms, START_MS)
    return stream


@bounded
@given(stories)
def test_an_image_holds_every_field_of_every_story(story: list[Said]) -> None:
    streams = one(told(story))
    assert read(take_image(streams)) == streams


@bounded
@given(stories, stories)
def test_a_story_goes_on_from_an_image_as_if_there_had_been_none(before: list[Said], after: list[Said]) -> None:
    spec = told(before, THINKING)
    other = spec.copy()
    other.stream = read(take_image(one(spec)))[AGENT.encode()]
    assert told(after, other).drafts == told(after, spec).drafts


@bounded
@given(texts, json_values)
def test_whatever_a_tool_or_a_trigger_said_is_held(text: str, value: Json) -> None:
    memory = RecalledMemory(id=text, kind="fact", content=text, score=0.1)
    spec = ACTIVE.given(start(data=value), context(entity=value, memories=[memory]))
    spec = spec.given(thought(call("a", id=text), call("b", "wire_money", id=value), text=text), result("a", value))
    assert read(take_image(one(spec))) == one(spec)


@pytest.mark.parametrize("value", [NASTY, {"0": {"1": [1.5, 1.0, 1, True]}}, 2**64 - 1, -0.0, "", [], None])
def test_texts_and_numbers_of_every_kind_are_held(value: Json) -> None:
    spec = ACTIVE.given(start(data=value), context(entity=value), thought(call("a", id=value), text=NASTY))
    spec = spec.given(result("a", value), update(system_prompt=NASTY))
    held = read(take_image(one(spec)))
    assert held == one(spec)
    assert repr(held) == repr(one(spec))  # 1 == 1.0 == True: the kinds are the same too


def test_numbers_of_every_size_are_held() -> None:
    spec = THINKING.given(thought(call("a")))
    spec.run.calls[spec.call_ids["a"]].arguments["n"] = HUGE
    spec.run.cost_micros = 2**70
    held = read(take_image(one(spec)))[AGENT.encode()].runs[spec.run.id]
    assert repr(held.calls) == repr(spec.run.calls)
    assert held.cost_micros == 2**70


def test_what_a_live_run_is_pinned_to_is_held() -> None:
    spec = THINKING.given(update(name="Two"), update(name="Three", max_steps_per_run=1))
    (run,) = spec.stream.runs.values()
    held = read(take_image(one(spec)))[AGENT.encode()]
    assert sorted(held.agent.configs) == [1, 3]
    assert held.runs[run.id].catalogue is held.agent.catalogues[run.catalogue_sha256]


def test_what_governs_calls_is_held() -> None:
    """The requester and the site's grants, calls counted for rates, an approval that was changed and passed on."""
    rated, mail = tool("rated", rate_limit_per_minute=9, rate_limit_per_hour=20), tool("send_mail", risk="high")
    grants = SiteGrants(permissions=("send_emails",), modules=("crm",), risk_rules=(RiskRule(tool="x", threshold=1.5),))
    spec = Spec().given(create(config(on_expiry="escalate", escalate_to="manager")), activate())
    spec = spec.given(start(), actor=USER).given(context(Catalogue(tools=(rated, mail)), site=grants))
    spec = spec.given(thought(call("a", "rated"), call("b", "send_mail", id="7"), call("c", "rated")))
    spec = spec.given(approve("b", arguments={"id": "8"}), actor=APPROVING)
    spec = spec.given(expire("b"), later_ms=APPROVAL_MS)
    agent, held = spec.stream.agent, spec.run.calls[spec.call_ids["b"]]
    assert (held.role, held.escalated, held.edited_by, held.arguments) == ("manager", True, (APPROVING,), {"id": "8"})
    assert (len(agent.tool_calls["rated"]), agent.site, spec.run.requester) == (2, grants, Requester(actor=USER))
    assert read(take_image(one(spec))) == one(spec)


def test_ledgers_of_every_size_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "CHUNK_BYTES", 8 * 3_000)
    for prints in (0, 1, images.INLINE_PRINTS, images.INLINE_PRINTS + 1, 3_000, 10_000):
        streams = {AGENT.encode(): bucketed(2, prints)}
        image = take_image(streams)
        assert read(image) == streams
        assert all(len(blob) <= images.CHUNK_BYTES for blob in image.buckets.values())
        assert bool(image.buckets) == (prints > images.INLINE_PRINTS)


def test_a_print_that_stands_in_two_buckets_is_forgotten_with_the_later_one() -> None:
    stream = bucketed(1, 3)
    again = fingerprint("1", "2")
    stream.agent.triggers.remember(again, START_MS + 9 * HOUR_MS, START_MS)
    held = read(take_image({AGENT.encode(): stream}))[AGENT.encode()].agent.triggers
    for ledger in (stream.agent.triggers, held):
        ledger.remember(0, START_MS + 8 * HOUR_MS, START_MS + 5 * HOUR_MS)
        assert ledger.remembers(again, START_MS + 5 * HOUR_MS)
    assert held == stream.agent.triggers


def test_a_bucket_that_did_not_change_keeps_its_name() -> None:
    stream = bucketed(3, images.INLINE_PRINTS + 1)
    before = take_image({AGENT.encode(): stream})
    stream.agent.triggers.remember(1, START_MS + 2 * HOUR_MS, START_MS)
    after = take_image({AGENT.encode(): stream})
    assert len(before.buckets.keys() & after.buckets.keys()) == 2
    assert len(before.buckets) == len(after.buckets) == 3


def test_an_image_does_not_change_with_the_state() -> None:
    spec = THINKING.copy()
    image = take_image(one(spec))
    left = copy.deepcopy(one(spec))
    spec = spec.given(thought(call("a")), result("a"))
    assert read(image) == left


def test_a_large_image_is_cut_and_put_together_again() -> None:
    streams: dict[bytes, Stream] = {}
    for number in range(20):
        agent_id = agent_id_of(SITE, f"agent-{number}")
        stream = Stream.empty(agent_id, SITE)
        stream.agent.configs[1] = config(system_prompt="é" * 20_000, examples=[{"input": "x" * 9_000, "output": ""}])
        streams[agent_id.encode()] = stream
    image = take_image(streams)
    assert len(image.core) > 1
    assert all(len(chunk) <= images.CHUNK_BYTES for _, chunk in image.core)
    assert read(image) == streams


def test_an_empty_partition_has_an_image() -> None:
    assert read(take_image({})) == {}


def test_an_image_without_one_of_its_blobs_is_an_error() -> None:
    image = take_image({AGENT.encode(): bucketed(1, images.INLINE_PRINTS + 1)})
    with pytest.raises(DecodeError, match="can't be read"):
        read(image, without=next(iter(image.buckets)))


@pytest.mark.parametrize(
    "core",
    [b"{}", b"{}\n{}\n", b"[]\n[]\n", b"1\n2\n", b"\xff\n\xff\n", b"null\nnull\n", b'{"key":1}\n{"agent":{}}\n', b"\n"],
)
def test_what_is_no_image_is_an_error(core: bytes) -> None:
    with pytest.raises(DecodeError, match="can't be read"):
        read_image(core, {})


def test_the_state_is_the_one_of_its_version() -> None:
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"records": _recorded()}
    now = {"version": STATE_VERSION, "fields": _fields(), "state": _folded(golden["records"])}
    if os.environ.get("DRAMAC_GOLDEN") == "write" and golden.get("version") != STATE_VERSION:
        golden |= now
        GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
    assert golden | now == golden, "images changed: raise STATE_VERSION, then write anew (see the top of this file)"


def _fields() -> Any:
    schema = TypeAdapter(Stream).json_schema(mode="serialization")
    for name in images._FURNISHED:
        del schema["$defs"]["Run"]["properties"][name]
    return _bare(schema, names=False)


def _recorded() -> list[Any]:
    """Return a history as JSON: once written it stays, whatever the deciders decide later."""
    drafts = whole_run().given(start("t3"), context(), thought(call("d"), call("e", "wire_money"))).drafts
    return [
        [(d.key or b"").decode(), (d.value or b"").decode(), [[name, value.decode()] for name, value in d.headers]]
        for d in drafts
    ]


def _folded(records: list[Any]) -> list[Any]:
    """Return the lines of the image of what the recorded history leads to."""
    streams: dict[bytes, Stream] = {}
    for offset, (key, value, headers) in enumerate(records):
        named = tuple((name, content.encode()) for name, content in headers)
        assert fold(streams, Record(EVENTS, 0, offset, 0, key.encode(), value.encode(), named))
    assert any(run.calls for stream in streams.values() for run in stream.runs.values())
    core = b"".join(chunk for _, chunk in take_image(streams).core)
    return [json.loads(line) for line in core.splitlines()]
