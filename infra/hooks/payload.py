"""A delivery's body as data for an agent: JSON, not too large, not too deep, and never believed."""

from infra.hooks.refusals import UnsupportedMediaError, WrongPayloadError
from schemas.message import Json
from streams.cloudevents import load_json
from streams.content_types import is_json

MAX_DEPTH = 64  # of nested arrays and objects; the deepest of GitHub's events has 7
EVENT_TYPE_CHARS = 200


def check_media(content_type: str | None, content_encoding: str | None) -> None:
    """Check what a body says that it is.

    Raises:
        UnsupportedMediaError: it is not plain JSON; the message says what to send.
    """
    if content_encoding is not None and content_encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaError("a compressed body is not supported: send it as it is")
    if content_type is None:
        raise UnsupportedMediaError("the header content-type is missing: send application/json")
    try:
        if is_json(content_type):
            return
    except ValueError as error:
        raise UnsupportedMediaError(str(error)) from None
    raise UnsupportedMediaError("send application/json; at GitHub, choose it as the webhook's content type")


def read_payload(body: bytes) -> Json:
    """Return what a body says.

    Raises:
        WrongPayloadError: it is not a JSON object or array, or is nested deeper than MAX_DEPTH.
    """
    try:
        value = load_json(body)
    except ValueError as error:
        raise WrongPayloadError(f"the body is {error}") from None
    except RecursionError:
        raise WrongPayloadError(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    # Not a number: with `id.time.body`, a body that begins with digits and a dot could pass for another time's.
    if not isinstance(value, dict | list):
        raise WrongPayloadError("the body must be a JSON object or array")
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for one in level for child in _children(one) if isinstance(child, dict | list)]
        if not level:
            return value
    raise WrongPayloadError(f"the body is nested deeper than {MAX_DEPTH} levels")


def event_type_of(payload: Json) -> str | None:
    """Return the type that the payload of a Standard Webhook names, where it is one."""
    told = payload.get("type") if isinstance(payload, dict) else None
    if isinstance(told, str) and 0 < len(told) <= EVENT_TYPE_CHARS and told.isprintable():
        return told
    return None


def _children(value: Json) -> list[Json]:
    return list(value.values()) if isinstance(value, dict) else value
