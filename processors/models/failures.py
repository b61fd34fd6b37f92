"""What a provider's refusal means, in our words: pure functions of its status, headers and body.

    rate_limited     too many requests or tokens a minute            ask later
    overloaded       the provider is too busy                        ask later
    unavailable      it failed, or could not be reached              ask later
    timeout          it did not answer in time                       ask later
    cut_stream       its answer broke off                            ask again
    invalid_reply    its answer can't be used                        tell the model, ask again
    circuit_open     it failed too often just now                    ask another
    quota            the account's money or day is used up           ask another
    context_length   the prompt is too long for the model            shorten
    content_filter   it refused the content
    auth             the key is wrong or lacks a right
    unknown_model    there is no such model for this key
    invalid_request  it does not take a request like this
    unsupported_content  the prompt or the answer has what is not text

A provider's own words are cut, freed of what looks like a key, and never shown to a model.
"""

import email.utils
import re
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.errors import ModelError
from schemas.message import Json

MESSAGE_CHARS = 300  # enough of a provider's words to understand it, too little to smuggle a body
RETRY_AFTER_CAP_S = 60.0  # half of the time a whole call may take: what asks for more is asked another way

RETRYABLE = frozenset({"rate_limited", "overloaded", "unavailable", "timeout", "cut_stream", "invalid_reply"})
# Failures that may come after the work was done: nobody told what was spent.
MAYBE_SPENT = frozenset({"unavailable", "timeout", "cut_stream"})

_TOO_LONG = re.compile(
    r"context[ _-]?(length|window)|maximum context|prompt is too long|input is too long|too many (input )?tokens"
    r"|exceeds? the (maximum|model.s maximum)( number of)? (context|tokens|input)|token count .{0,40}exceeds",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content[ _]?(filter|policy|management)|safety (system|settings)|prohibited_content", re.I)
_KEY = re.compile(
    r"(?:sk|pk|rk|gsk|xai|key|AIza|AKIA|ghp|hf|Bearer)[-_ ]?[A-Za-z0-9*][A-Za-z0-9_*.\-]{7,}|[A-Za-z0-9_\-]{32,}", re.I
)
_WAIT = re.compile(r"(?:try again|retry) (?:in|after) ((?:[0-9.]+ ?(?:ms|s|m|h)(?:ec\w*|in\w*)?[ ,]*)+)", re.I)
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_BY_WORD = {
    "overloaded_error": "overloaded",
    "overloaded": "overloaded",
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "too_many_requests": "rate_limited",
    "resource_exhausted": "rate_limited",
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_error": "quota",
    "context_length_exceeded": "context_length",
    "string_above_max_length": "context_length",
    "request_too_large": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "authentication_error": "auth",
    "permission_error": "auth",
    "invalid_api_key": "auth",
    "api_key_invalid": "auth",
    "permission_denied": "auth",
    "unauthenticated": "auth",
    "model_not_found": "unknown_model",
    "not_found_error": "unknown_model",
    "invalid_request_error": "invalid_request",
    "timeout_error": "timeout",
    "deadline_exceeded": "timeout",
    "server_error": "unavailable",
    "api_error": "unavailable",
    "internal": "unavailable",
    "unavailable": "overloaded",
}
_BY_STATUS = {
    401: "auth",
    402: "quota",
    403: "auth",
    404: "unknown_model",
    408: "timeout",
    409: "unavailable",
    413: "context_length",
    425: "unavailable",
    429: "rate_limited",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


def refused(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: Json,
    *,
    now_s: float,
    secrets: Iterable[str] = (),
) -> ModelError:
    """Return what an answer with an error means. `status` 200: an error within a stream that began well.

    `body` is the decoded JSON, or text; `now_s` is Unix time, to understand a date in `Retry-After`.
    """
    low = {name.lower(): value for name, value in headers.items()}
    message, words = _said(body)
    reason = _reason(status, words, message, body)
    retryable = reason in RETRYABLE
    if reason in MAYBE_SPENT or reason in ("overloaded", "rate_limited"):
        retryable = low.get("x-should-retry", "").lower() != "false"
    wait_s = retry_after_s(low, body, message, now_s=now_s) if retryable else None
    return ModelError(
        f"{provider!r} refused: {reason} ({status}){_told(reason, message, secrets)}",
        reason=reason,
        retryable=retryable,
        retry_after_s=wait_s,
        unsettled=reason in MAYBE_SPENT and status not in (408, 409, 425),
    )


def _told(reason: str, message: str, secrets: Iterable[str]) -> str:
    if reason == "auth":  # providers repeat keys here
        return ": check the provider's key and what it may use"
    text = redacted(message, secrets)
    return f": {text}" if text else ""


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return one cut line of a provider's words without `secrets` and without what looks like a key."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 20 * MESSAGE_CHARS]).split())
    line = _KEY.sub(lambda found: "[key]" if _looks_secret(found.group()) else found.group(), line)
    return line if len(line) <= MESSAGE_CHARS else line[: MESSAGE_CHARS - 1] + "…"


def _looks_secret(word: str) -> bool:
    return word.lower().startswith("bearer") or any(c.isdigit() or c == "*" for c in word)


def _said(body: Json) -> tuple[str, list[str]]:
    """Return the message of an error's body and the words that classify it, the most telling first."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return (body if isinstance(body, str) else ""), []
    error = body.get("error", body)
    if isinstance(error, str):
        return error, []
    if not isinstance(error, dict):
        return "", []
    inner = error.get("innererror")
    told: list[Any] = [inner.get("code")] if isinstance(inner, dict) else []
    told += [error.get("code"), error.get("type"), error.get("status")]
    details = error.get("details")
    if isinstance(details, list):
        told = [detail.get("reason") for detail in details if isinstance(detail, dict)] + told
    message = error.get("message")
    return (message if isinstance(message, str) else ""), [word.lower() for word in told if isinstance(word, str)]


def _reason(status: int, words: list[str], message: str, body: Json) -> str:
    found = next((_BY_WORD[word] for word in words if word in _BY_WORD), None)
    if status in (400, 413, 422, 200, 500) and _TOO_LONG.search(message):
        return "context_length"
    if (status == 429 or found == "rate_limited") and "PerDay" in str(body):
        return "quota"
    if found is not None and found != "invalid_request" and not (status >= 500 and found == "unknown_model"):
        return found
    if status in (400, 422) and _FILTERED.search(message):
        return "content_filter"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return "unavailable"
    if status == 200:
        return found or "unavailable"
    return "invalid_request"


def retry_after_s(headers: Mapping[str, str], body: Json, message: str, *, now_s: float) -> float | None:
    """Return how long a provider asks to wait, at most `RETRY_AFTER_CAP_S`; None where it does not say.

    From `retry-after-ms`, `Retry-After` as seconds or as an HTTP date (RFC 9110 10.2.3), Google's RetryInfo, or the
    message's own words.
    """
    wait_s = _number(headers.get("retry-after-ms", ""), 0.001)
    if wait_s is None:
        wait_s = _number(headers.get("retry-after", ""), 1.0)
    if wait_s is None and headers.get("retry-after"):
        wait_s = _until(headers["retry-after"], now_s)
    if wait_s is None:
        wait_s = _retry_info(body)
    if wait_s is None and (found := _WAIT.search(message[:4_000])):
        wait_s = sum(float(number) * _SECONDS[unit] for number, unit in _SPAN.findall(found.group(1)))
    return None if wait_s is None else min(max(wait_s, 0.0), RETRY_AFTER_CAP_S)


def _number(text: str, unit_s: float) -> float | None:
    if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", text) is None:
        return None
    return float(text) * unit_s


def _until(date: str, now_s: float) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - now_s
    except (ValueError, TypeError, OverflowError):
        return None


def _retry_info(body: Json) -> float | None:
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            return _number(delay[:-1], 1.0)
    return None
