"""What refusals mean: recorded ones, and those that their makers document."""

import json
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from processors.models.failures import MESSAGE_CHARS, RETRY_AFTER_CAP_S, redacted, refused
from schemas.errors import ModelError

BODIES = Path(__file__).parents[3] / "shared/data/llm_error_bodies.json"
NOW_S = 1_769_247_000.0


def refusal(status: int, body: Any, **headers: str) -> ModelError:
    return refused("p", status, {name.replace("_", "-"): value for name, value in headers.items()}, body, now_s=NOW_S)


# By provider and what its message begins with: the reason, whether to ask again, and how long to wait.
EXPECTED: dict[tuple[str, str], tuple[str, bool, float | None]] = {
    ("anthropic", "Overloaded"): ("overloaded", True, None),
    ("openai", "Rate limit reached"): ("rate_limited", True, 0.174),
    ("openai", "You exceeded your current quota"): ("quota", False, None),
    ("anthropic", "This request would exceed"): ("rate_limited", True, None),
    ("google", "Resource has been exhausted"): ("rate_limited", True, None),
    ("google", "You exceeded your current quota"): ("rate_limited", True, 48.0),
}


def recorded() -> list[Any]:
    if not BODIES.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"there are no recorded errors at {BODIES}"))]
    return json.loads(BODIES.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("answer", recorded())
def test_a_recorded_refusal_is_understood(answer: Any) -> None:
    error = refused(answer["provider"], answer["status"], answer["headers"], answer["body"], now_s=NOW_S)
    message = answer["body"]["error"]["message"]
    expected = next(e for (who, says), e in EXPECTED.items() if who == answer["provider"] and message.startswith(says))
    wait_s = None if error.retry_after_s is None else pytest.approx(error.retry_after_s)
    assert (error.reason, error.retryable, wait_s) == expected
    assert not error.unsettled
    assert "\n" not in str(error)
    assert len(str(error)) < MESSAGE_CHARS + 100


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, {}, "unavailable"),
        (502, "<html>Bad gateway</html>", "unavailable"),
        (503, {"error": {"status": "UNAVAILABLE", "message": "The model is overloaded."}}, "overloaded"),
        (504, {"error": {"status": "DEADLINE_EXCEEDED"}}, "timeout"),
        (529, None, "overloaded"),
        (408, None, "timeout"),
        (401, None, "auth"),
        (400, {"error": {"details": [{"reason": "API_KEY_INVALID"}], "status": "INVALID_ARGUMENT"}}, "auth"),
        (403, {"error": {"type": "permission_error"}}, "auth"),
        (404, {"error": "model 'x' not found"}, "unknown_model"),
        (400, {"error": {"code": "context_length_exceeded", "type": "invalid_request_error"}}, "context_length"),
        (400, {"error": {"type": "invalid_request_error", "message": "prompt is too long"}}, "context_length"),
        (400, {"error": {"message": "The input token count (9) exceeds the maximum number"}}, "context_length"),
        (413, {"error": {"type": "request_too_large"}}, "context_length"),
        (400, {"error": {"code": "content_filter", "innererror": {"code": "Policy"}}}, "content_filter"),
        (400, {"error": {"type": "invalid_request_error", "message": "tools.0: no"}}, "invalid_request"),
        (422, {"detail": [{"msg": "field required"}]}, "invalid_request"),
        (200, {"type": "error", "error": {"type": "overloaded_error"}}, "overloaded"),
        (200, {"error": "something went wrong"}, "unavailable"),
        (429, {"error": {"details": [{"violations": [{"quotaId": "RequestsPerDay"}]}]}}, "quota"),
        (429, [{"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"quotaId": "PerDayPerModel"}]}}], "quota"),
        (302, None, "invalid_request"),
        (418, 7, "invalid_request"),
    ],
)  # fmt: skip
def test_a_refusal_has_a_reason(status: int, body: Any, reason: str) -> None:
    assert refusal(status, body).reason == reason


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"Retry_After": formatdate(NOW_S + 9, usegmt=True)}, 9.0),
        ({"retry_after": formatdate(NOW_S - 9, usegmt=True)}, 0.0),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after": "86400"}, RETRY_AFTER_CAP_S),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "1e9"}, None),
        ({}, None),
    ],
)
def test_what_a_provider_asks_to_wait_is_read_and_bounded(headers: dict[str, str], wait_s: float | None) -> None:
    assert refusal(429, None, **headers).retry_after_s == wait_s


@pytest.mark.parametrize(
    ("says", "wait_s"),
    [("Please try again in 6m0s.", 60.0), ("try again in 1.5s", 1.5), ("retry after 20 seconds", 20.0)],
)
def test_a_wait_in_words_is_read(says: str, wait_s: float) -> None:
    assert refusal(429, {"error": {"message": says}}).retry_after_s == wait_s


def test_a_provider_that_says_not_to_ask_again_is_not_asked_again() -> None:
    assert not refusal(500, None, x_should_retry="false").retryable
    assert refusal(500, None).retryable
    assert not refusal(400, None, x_should_retry="true").retryable


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF123456789012345",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "Bearer abcdefgh12345678",
        "my very own",
    ],
)
def test_no_key_is_repeated(key: str) -> None:
    said = redacted(f"wrong key {key} for this model", ("my very own",))
    assert key not in said
    assert "[key]" in said
    assert key not in str(refused("p", 401, {}, {"error": {"message": f"Incorrect API key {key}"}}, now_s=0))


def test_a_providers_words_are_one_cut_line() -> None:
    said = redacted("a\nb\x1b[31m" + "word " * 10_000)
    assert len(said) == MESSAGE_CHARS
    assert said.isprintable()
