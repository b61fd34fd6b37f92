"""Text from outside as Markdown that shows exactly that text: no headings, links, pictures or HTML come of it."""

import re
from collections.abc import Sequence

# CommonMark lets any of these be escaped. Those that mean something only where a line begins are seen to below.
_INLINE = re.compile(r"[\\`*_\[\]<>|~&!$^{}#]")
_LINE_START = re.compile(r"^(?:([-+=])|(\d{1,9})([.)])(?=\s|$))")
_BARE_LINK = re.compile(r":(?=//)|(?<=\bwww)\.", re.IGNORECASE)  # links without any mark, as GitHub finds them
# Control characters, and those that turn the direction of what follows: a report must read as it is written.
_CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]")
_PARAGRAPHS = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_SPACE = re.compile(r"\s+")


def escape_line(text: str) -> str:
    """Return `text` as Markdown of one line."""
    return _LINE_START.sub(_not_a_start, escape_within(text))


def escape_within(text: str) -> str:
    """Return `text` as Markdown for the midst of a line, where nothing can begin: a cell, a title."""
    return _escaped(_SPACE.sub(" ", _clean(text)).strip())


def escape_text(text: str) -> str:
    """Return `text` as Markdown paragraphs, divided where it has blank lines."""
    paragraphs = (
        "\n".join(
            _LINE_START.sub(_not_a_start, _escaped(line.strip())) for line in paragraph.split("\n") if line.strip()
        )
        for paragraph in _PARAGRAPHS.split(_clean(text).strip())
    )
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def bullets(items: Sequence[str]) -> str:
    """Return a list of texts."""
    return "\n".join(f"- {escape_line(item)}" for item in items if item.strip())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers. Cells are escaped here."""
    lines = [head, *rows]
    cells = ["| " + " | ".join(escape_within(cell) for cell in line) + " |" for line in lines]
    return "\n".join([cells[0], "|" + "|".join([":---"] + ["---:"] * (len(head) - 1)) + "|", *cells[1:]])


def without_controls(text: str) -> str:
    """Return `text` without what could steer a terminal or turn the direction of writing."""
    return _CONTROLS.sub("", text)


def _clean(text: str) -> str:
    return without_controls(text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode())


def _escaped(line: str) -> str:
    line = _INLINE.sub(r"\\\g<0>", line)
    return _BARE_LINK.sub(r"\\\g<0>", line)


def _not_a_start(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"
