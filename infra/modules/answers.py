"""Reading what somebody answered over HTTP: a result, words for the model, or silence that may have acted."""

import email.utils
import json
import logging
from dataclasses import dataclass

import httpx2
import orjson

from processors.tools.cleaning import clean_text
from processors.tools.port import BusyError, ToolError
from schemas.exact import may_be_rounded
from schemas.message import Json

logger = logging.getLogger(__name__)

ANSWER_BYTES = 1024 * 1024  # a result is cut at a sixteenth of it: the rest only gives it a length and a sha256
ERROR_BYTES = 16 * 1024
ERROR_CHARS = 500
LONGEST_RETRY_AFTER_S = 60.0
REDACTED = b"[secret]"
LONGEST_INTEGER = 4_000  # digits that Python reads; the text of a longer one is as exact

# Nothing was done, and it may be done later. 409 is told instead: what it conflicts with does not pass by itself.
_LATER = frozenset({425, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, of whose body at most so much is kept as is read of it; `cut`: there was more."""

    status: int
    retry_after: str | None
    content_type: str
    body: bytes
    cut: bool


async def receive(response: httpx2.Response) -> Answer:
    """Read a response within bounds, as it was sent; who asked for it closes it."""
    most = ANSWER_BYTES if response.is_success else ERROR_BYTES
    received = bytearray()
    async for chunk in response.aiter_raw():
        received += chunk
        if len(received) > most:
            break
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    retry_after = response.headers.get("retry-after")
    return Answer(response.status_code, retry_after, content_type, bytes(received[:most]), len(received) > most)


def _without(secret: bytes, body: bytes) -> bytes:
    """Return a body without the secret, also as a JSON text holds it."""
    escaped = json.dumps(secret.decode("ascii")).encode()[1:-1]
    for form in (secret, escaped, escaped.replace(b"/", rb"\/")):
        body = body.replace(form, REDACTED)
    return body


def read(answer: Answer, who: str, *, secret: bytes | None, now_s: float, texts: bool = False) -> Json:
    """Return the result. `who` answered begins sentences; `secret` never stands in one; `texts`: text is one too.

    Raises:
        ToolError: it refused, in words for the model.
        BusyError: it may have acted, and did not say so in a way that can be read.
    """
    status, body = answer.status, _without(secret, answer.body) if secret else answer.body
    if 200 <= status < 300:
        if answer.cut:
            raise ToolError(f"{who} answered more than {ANSWER_BYTES // 1024} KiB: ask for less.")
        if not body:
            return None
        if texts and answer.content_type.startswith("text/"):
            return body.decode("utf-8", "replace")
        try:
            return json_of(body)
        except RecursionError:
            raise ToolError(f"{who} answered what is nested too deeply to be read.") from None
        except ValueError:
            # It acted, and its answer was lost on the way: the same key gives it again.
            raise BusyError(f"{who} answered what is not JSON") from None
    if status in _LATER:
        words = words_of(body) or f"{who} is busy."
        raise ToolError(words, retryable=True, retry_after_s=_wait_s(answer, now_s))
    if status == 408 or status >= 500:
        raise BusyError(f"{who} answered with status {status}", retry_after_s=_wait_s(answer, now_s))
    if status in (401, 403) or status < 400:
        logger.error("%s answered with status %s: check its address and secret", who, status)
        raise ToolError(f"{who} does not accept calls of this system.")
    raise ToolError(words_of(body) or f"{who} refused this call with status {status}.")


def _wait_s(answer: Answer, now_s: float) -> float | None:
    """Return the seconds to wait by Retry-After (RFC 9110, 10.2.3): a number, or a date."""
    text = answer.retry_after
    if text is None:
        return None
    if text.strip().isdecimal() and len(text) < 10:
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def json_of(body: bytes) -> Json:
    """Return what JSON says, also where it was written carelessly: what can't be kept is left for the cleaning to tell.

    Many write NaN, halves of characters, bytes that are not UTF-8; numbers stay exact, however long.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    if not may_be_rounded(body):
        try:
            return orjson.loads(body)
        except ValueError:
            pass
    found: Json = json.loads(body.decode("utf-8-sig", "replace"), strict=False, parse_int=_integer)
    return found


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits


def words_of(body: bytes) -> str:
    """Return what an error's body says, in one line; nothing if it says nothing in a way we know."""
    try:
        found = json_of(body)
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "detail", "message", "title"):
        value = found.get(name) if isinstance(found, dict) else None
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value.strip():
            return " ".join(clean_text(value).split())[:ERROR_CHARS]
    return ""
