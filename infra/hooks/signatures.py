"""How senders sign: Standard Webhooks (https://www.standardwebhooks.com) and GitHub's X-Hub-Signature-256.

Pure functions: time comes in. What is read here was sent by anybody, and is believed only after `verify`.
"""

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from infra.hooks.refusals import BadSignatureError, MalformedDeliveryError

Scheme = Literal["standard", "github"]
SCHEMES: tuple[Scheme, ...] = ("standard", "github")

TOLERANCE_S = 5 * 60  # between a delivery's timestamp and our clock, either way
SIGNATURES = 32  # of one delivery; a sender in the middle of a rotation sends two
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
SECRET_BYTES = range(24, 65)  # of a Standard Webhooks key, as its specification says
TEXT_SECRET_CHARS = range(16, 257)  # of a secret that is a text, as GitHub's are

_ID = re.compile(r"[!-~]{1,200}")  # what can be seen, in ASCII
_SECONDS = re.compile(r"[0-9]{1,12}")
_EVENT = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")

# The header names of each scheme: the delivery's id, its signature, the time, the event's type.
_NAMES: dict[Scheme, tuple[str, str, str | None, str | None]] = {
    "standard": ("webhook-id", "webhook-signature", "webhook-timestamp", None),
    "github": ("x-github-delivery", "x-hub-signature-256", None, "x-github-event"),
}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a delivery's headers say, not yet verified.

    `timestamp_s` is None where the scheme has none. GitHub signs the body alone: `id` and `event_type` of its
    deliveries are as trustworthy as the way they came, even after `verify`.
    """

    scheme: Scheme
    id: str
    timestamp_s: int | None
    signatures: tuple[str, ...]
    event_type: str | None


def read_claims(scheme: Scheme, headers: Sequence[tuple[bytes, bytes]]) -> Claims:
    """Return what the headers (names in lower case) say.

    Raises:
        MalformedDeliveryError: one is missing, stands twice, or is not what it has to be.
        BadSignatureError: there is no signature.
    """
    id_name, signature_name, time_name, event_name = _NAMES[scheme]
    delivery_id = _one(headers, id_name)
    if delivery_id is None:
        raise MalformedDeliveryError(f"the header {id_name} is missing: it names the delivery")
    if _ID.fullmatch(delivery_id) is None:
        raise MalformedDeliveryError(f"{id_name} must be 1 to 200 visible ASCII characters")
    timestamp_s = None if time_name is None else _seconds(time_name, _one(headers, time_name))
    signature = _one(headers, signature_name)
    if signature is None:
        raise BadSignatureError(f"the header {signature_name} is missing: sign with the hook's secret")
    signatures = tuple(signature.split(" ")[:SIGNATURES]) if scheme == "standard" else (signature,)
    event_type = None if event_name is None else _one(headers, event_name)
    if event_type is not None and _EVENT.fullmatch(event_type) is None:
        raise MalformedDeliveryError(f"{event_name} must be 1 to 200 letters, digits, or any of _ . : / -")
    return Claims(scheme, delivery_id, timestamp_s, signatures, event_type)


def verify(claims: Claims, body: bytes, keys: Mapping[str, bytes], now_s: float) -> str:
    """Return which of `keys` (by any name) signed the delivery.

    Raises:
        BadSignatureError: none of them did; or one did, but at another time than about now.
    """
    given = [signature.encode("latin-1") for signature in claims.signatures]
    for name, key in keys.items():
        expected = sign(claims.scheme, key, claims.id, claims.timestamp_s, body).encode()
        # All are compared, each in constant time.
        if any([hmac.compare_digest(expected, one) for one in given]):
            _check_time(claims.timestamp_s, now_s)
            return name
    raise BadSignatureError("the signature is not of one of this hook's secrets")


def sign(scheme: Scheme, key: bytes, delivery_id: str, timestamp_s: int | None, body: bytes) -> str:
    """Return the signature of a delivery, as it stands in its header."""
    if scheme == "github":
        return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
    signed = b"%s.%d.%s" % (delivery_id.encode("ascii"), timestamp_s or 0, body)
    return "v1," + b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signed_headers(
    scheme: Scheme, key: bytes, delivery_id: str, now_s: int, body: bytes, event_type: str | None = None
) -> dict[str, str]:
    """Return the headers of a delivery, as a sender makes them."""
    id_name, signature_name, time_name, event_name = _NAMES[scheme]
    headers = {id_name: delivery_id, signature_name: sign(scheme, key, delivery_id, now_s, body)}
    if time_name is not None:
        headers[time_name] = str(now_s)
    if event_name is not None and event_type is not None:
        headers[event_name] = event_type
    return headers


def new_secret(scheme: Scheme) -> str:
    """Return a fresh secret, in the form in which its scheme's senders take it."""
    if scheme == "github":
        return secrets.token_urlsafe(32)
    return SECRET_PREFIX + b64encode(secrets.token_bytes(32)).decode()


def key_of(scheme: Scheme, secret: str) -> bytes:
    """Return the bytes that sign: the decoded ones of a `whsec_` secret, the text's own for GitHub.

    Raises:
        ValueError: it is not a secret of that scheme; the message does not show it.
    """
    if scheme == "github":
        if len(secret) not in TEXT_SECRET_CHARS or not secret.isascii() or not secret.isprintable():
            first, last = TEXT_SECRET_CHARS[0], TEXT_SECRET_CHARS[-1]
            raise ValueError(f"a secret for GitHub is {first} to {last} visible ASCII characters")
        return secret.encode()
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (Base64Error, ValueError):
        key = b""
    if len(key) not in SECRET_BYTES or not secret.startswith(SECRET_PREFIX):
        first, last = SECRET_BYTES[0], SECRET_BYTES[-1]
        raise ValueError(f"a Standard Webhooks secret is whsec_ and the base64 of {first} to {last} bytes")
    return key


def _check_time(timestamp_s: int | None, now_s: float) -> None:
    if timestamp_s is not None and abs(now_s - timestamp_s) > TOLERANCE_S:
        early = "before" if timestamp_s < now_s else "after"
        told = f"webhook-timestamp is more than {TOLERANCE_S // 60} minutes {early} our time"
        raise BadSignatureError(f"{told}: sign each attempt anew, and set the clock")


def _seconds(name: str, text: str | None) -> int:
    if text is None:
        raise MalformedDeliveryError(f"the header {name} is missing: it is the time in Unix seconds")
    if _SECONDS.fullmatch(text) is None or (text[0] == "0" and text != "0"):  # one spelling: it is what was signed
        raise MalformedDeliveryError(f"{name} must be the time in Unix seconds")
    return int(text)


def _one(headers: Sequence[tuple[bytes, bytes]], name: str) -> str | None:
    """Return the header of that name: who reads two, and which, depends on the reader."""
    wanted = name.encode()
    found = [value.decode("latin-1") for key, value in headers if key == wanted]
    if len(found) > 1:
        raise MalformedDeliveryError(f"the header {name} stands twice")
    return found[0] if found else None
