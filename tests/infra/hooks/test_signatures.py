"""Signatures of webhooks: what the schemes publish, and that nothing but it passes."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.hooks.refusals import BadSignatureError, MalformedDeliveryError
from infra.hooks.signatures import (
    SCHEMES,
    TOLERANCE_S,
    Claims,
    Scheme,
    key_of,
    new_secret,
    read_claims,
    sign,
    signed_headers,
    verify,
)

NAUGHTY = Path(__file__).parents[4] / "shared" / "data" / "naughty_strings.json"

# The example of the Standard Webhooks' reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME_S = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
KEY = key_of("standard", SECRET)

# The example of GitHub's documentation.
GITHUB_KEY = b"It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

CLAIMS = Claims("standard", ID, TIME_S, (SIGNATURE,), None)
GITHUB = Claims("github", "72d3162e-cc78-11e3-81ab-4c9367dc0958", None, (GITHUB_SIGNATURE,), "push")


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("utf-8")) for name, value in headers.items()]


def test_the_published_examples_pass() -> None:
    assert sign("standard", KEY, ID, TIME_S, BODY) == SIGNATURE
    assert verify(CLAIMS, BODY, {"a": KEY}, TIME_S) == "a"
    assert sign("github", GITHUB_KEY, "any", None, GITHUB_BODY) == GITHUB_SIGNATURE
    assert verify(GITHUB, GITHUB_BODY, {"a": GITHUB_KEY}, 0) == "a"


@given(
    key=st.binary(min_size=24, max_size=64),
    delivery_id=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    time_s=st.integers(0, 10**11),
    body=st.binary(max_size=300),
)
def test_a_signature_is_the_hmac_that_anybody_computes(key: bytes, delivery_id: str, time_s: int, body: bytes) -> None:
    digest = hmac.digest(key, f"{delivery_id}.{time_s}.".encode() + body, hashlib.sha256)
    told = {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(time_s),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
    assert signed_headers("standard", key, delivery_id, time_s, body) == told
    assert verify(read_claims("standard", raw(told)), body, {"k": key}, time_s) == "k"
    github = {"x-hub-signature-256": "sha256=" + hmac.new(key, body, "sha256").hexdigest(), "x-github-delivery": "d"}
    assert verify(read_claims("github", raw(github)), body, {"k": key}, 0) == "k"


@given(
    at=st.integers(0, 10_000), bit=st.integers(0, 7), part=st.sampled_from(["id", "time", "body", "signature", "key"])
)
def test_any_flipped_bit_is_refused(at: int, bit: int, part: str) -> None:
    def flipped(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[at % len(changed)] ^= 1 << bit
        return bytes(changed)

    headers = {
        b"webhook-id": ID.encode(),
        b"webhook-timestamp": str(TIME_S).encode(),
        b"webhook-signature": SIGNATURE.encode(),
    }
    names = {"id": b"webhook-id", "time": b"webhook-timestamp", "signature": b"webhook-signature"}
    if part in names:
        headers[names[part]] = flipped(headers[names[part]])
    body = flipped(BODY) if part == "body" else BODY
    key = flipped(KEY) if part == "key" else KEY
    with pytest.raises((BadSignatureError, MalformedDeliveryError)):
        verify(read_claims("standard", list(headers.items())), body, {"k": key}, TIME_S)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), part=st.sampled_from(["body", "signature", "key"]))
def test_any_flipped_bit_of_a_delivery_of_github_is_refused(at: int, bit: int, part: str) -> None:
    parts = {"body": GITHUB_BODY, "signature": GITHUB_SIGNATURE.encode(), "key": GITHUB_KEY}
    changed = bytearray(parts[part])
    changed[at % len(changed)] ^= 1 << bit
    parts[part] = bytes(changed)
    claims = replace(GITHUB, signatures=(parts["signature"].decode("latin-1"),))
    with pytest.raises(BadSignatureError):
        verify(claims, parts["body"], {"k": parts["key"]}, 0)


@given(st.text())
def test_no_text_is_a_signature(text: str) -> None:
    told = text.encode("utf-8", "surrogatepass").decode("latin-1")
    for claims in (replace(CLAIMS, signatures=tuple(told.split(" "))), replace(GITHUB, signatures=(told,))):
        with pytest.raises(BadSignatureError):
            verify(claims, BODY, {"k": KEY}, TIME_S)


@pytest.mark.parametrize("late", [-TOLERANCE_S, 0, TOLERANCE_S])
def test_a_clock_may_differ_by_five_minutes(late: int) -> None:
    assert verify(CLAIMS, BODY, {"k": KEY}, TIME_S + late) == "k"


@pytest.mark.parametrize(("late", "said"), [(-TOLERANCE_S - 1, "after our time"), (TOLERANCE_S + 1, "before our time")])
def test_what_was_signed_at_another_time_is_refused(late: int, said: str) -> None:
    with pytest.raises(BadSignatureError, match=said):
        verify(CLAIMS, BODY, {"k": KEY}, TIME_S + late)
    with pytest.raises(BadSignatureError, match="not of one of"):  # who has no secret learns nothing of clocks
        verify(replace(CLAIMS, signatures=("v1,x",)), BODY, {"k": KEY}, TIME_S + late)


def test_one_of_several_signatures_and_one_of_several_keys_suffice() -> None:
    several = replace(CLAIMS, signatures=("v1a,x", "v1,AAAA", "", SIGNATURE))
    assert verify(several, BODY, {"new": b"n" * 24, "old": KEY}, TIME_S) == "old"
    with pytest.raises(BadSignatureError):
        verify(several, BODY, {"new": b"n" * 24}, TIME_S)
    with pytest.raises(BadSignatureError):
        verify(several, BODY, {}, TIME_S)


@pytest.mark.parametrize(
    ("scheme", "missing", "error"),
    [
        ("standard", "webhook-id", MalformedDeliveryError),
        ("standard", "webhook-timestamp", MalformedDeliveryError),
        ("standard", "webhook-signature", BadSignatureError),
        ("github", "x-github-delivery", MalformedDeliveryError),
        ("github", "x-hub-signature-256", BadSignatureError),
    ],
)
def test_a_header_that_is_missing_is_named(scheme: Scheme, missing: str, error: type[Exception]) -> None:
    headers = signed_headers(scheme, KEY, ID, TIME_S, BODY)
    del headers[missing]
    with pytest.raises(error, match=missing):
        read_claims(scheme, raw(headers))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_header_that_stands_twice_is_refused(scheme: Scheme) -> None:
    headers = raw(signed_headers(scheme, KEY, ID, TIME_S, BODY, "push"))
    for one in headers:
        with pytest.raises(MalformedDeliveryError, match="stands twice"):
            read_claims(scheme, [*headers, one])


@pytest.mark.parametrize("time_", ["", "x", "-1", "+1", "1.5", "1e9", " 1", "01614265330", "1614265330000", "١٢"])
def test_a_timestamp_has_one_spelling(time_: str) -> None:
    headers = {**signed_headers("standard", KEY, ID, TIME_S, BODY), "webhook-timestamp": time_}
    with pytest.raises(MalformedDeliveryError, match="Unix seconds"):
        read_claims("standard", raw(headers))


def test_naughty_strings_are_ids_or_refused_and_nothing_else() -> None:
    if not NAUGHTY.exists():
        pytest.skip(f"no strings at {NAUGHTY}")
    for text in json.loads(NAUGHTY.read_text()):
        is_plain = 0 < len(text) <= 200 and all("!" <= character <= "~" for character in text)
        for scheme in SCHEMES:
            names = {"standard": "webhook-id", "github": "x-github-delivery"}
            headers = {**signed_headers(scheme, KEY, "x", TIME_S, BODY), names[scheme]: text}
            if is_plain:
                assert read_claims(scheme, raw(headers)).id == text
            else:
                with pytest.raises(MalformedDeliveryError):
                    read_claims(scheme, raw(headers))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_new_secret_is_one_of_its_scheme_and_like_no_other(scheme: Scheme) -> None:
    made = {new_secret(scheme) for _ in range(100)}
    assert len(made) == 100
    assert all(len(key_of(scheme, secret)) >= 32 for secret in made)


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        ("standard", ""),
        ("standard", "whsec_"),
        ("standard", "whsec_not base64"),
        ("standard", SECRET.removeprefix("whsec_")),
        ("standard", "whsec_" + base64.b64encode(b"x" * 23).decode()),
        ("standard", "whsec_" + base64.b64encode(b"x" * 65).decode()),
        ("github", ""),
        ("github", "short"),
        ("github", "x" * 257),
        ("github", "line\n" * 5),
        ("github", "ü" * 20),
    ],
)
def test_what_is_no_secret_is_refused_without_being_shown(scheme: Scheme, secret: str) -> None:
    with pytest.raises(ValueError, match=r"a .*secret") as told:
        key_of(scheme, secret)
    assert len(secret) < 8 or secret.removeprefix("whsec_") not in str(told.value)
