"""Content types, as far as CloudEvents need them (RFC 2045, RFC 6839)."""

import re

JSON = "application/json"
STRUCTURED_JSON = "application/cloudevents+json"

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_CONTENT_TYPE = re.compile(rf"\s*({_WORD}/{_WORD})\s*(?:;(.*))?", re.DOTALL)
_CHARSET = re.compile(r'(?:^|;)\s*charset\s*=\s*"?([^\s";]*)', re.IGNORECASE)


def parse_content_type(text: str) -> str:
    """Return the media type in lower case, without parameters.

    Raises:
        ValueError: it is none, or is in another charset than UTF-8.
    """
    if (found := _CONTENT_TYPE.fullmatch(text)) is None:
        raise ValueError(f"{text!r:.80} is no content-type")
    media, parameters = found[1].lower(), found[2] or ""
    charset = _CHARSET.search(parameters)
    if charset and is_json_media(media) and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise ValueError(f"JSON in the charset {charset[1]!r:.40} is not supported: send UTF-8")
    return media


def is_json(content_type: str) -> bool:
    """Whether a content type is JSON's, or based on it.

    Raises:
        ValueError: it is no content type.
    """
    return is_json_media(parse_content_type(content_type))


def is_json_media(media: str) -> bool:
    """Whether a media type in lower case is JSON's, or based on it."""
    return media.endswith(("/json", "+json"))
