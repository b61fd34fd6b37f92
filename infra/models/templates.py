"""Text and arguments with holes: `{{trigger.data.contact_id}}`, filled from a conversation.

The language is a path over JSON, of names, dots and `[indexes]`, with a text for what is missing after a bar:
`{{trigger.data.first_name|there}}`. Nothing is evaluated, and what fills a hole is never looked at again.
"""

import re
from collections.abc import Callable
from typing import Protocol

import orjson

from schemas.message import Json

_HOLE = re.compile(r"\{\{([^{}]*)\}\}")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+|\[[0-9]{1,6}\])*")

Path = tuple[str | int, ...]


class MissingError(LookupError):
    """A path leads nowhere, and the script says nothing for that case."""


class Scene(Protocol):
    """What holes are filled from."""

    def root(self, name: str) -> Json:
        """Return what a path begins at.

        Raises:
            KeyError: there is nothing of that name.
        """
        ...


Filled = Callable[[Scene], Json]


def parse_path(text: str) -> Path:
    """Return the steps of a path such as `tools.crm_search_contacts.contacts[0].id`.

    Raises:
        ValueError: it is not a path.
    """
    if _PATH.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is not a path such as trigger.data.items[0].id")
    head, *rest = re.findall(r"\[[0-9]+\]|[A-Za-z0-9_-]+", text)
    return (head, *(int(step[1:-1]) if step.startswith("[") else step for step in rest))


def look_up(scene: Scene, path: Path) -> Json:
    """Return what stands at `path`.

    Raises:
        MissingError: nothing does.
    """
    head, *rest = path
    try:
        value = scene.root(str(head))
        for step in rest:
            value = _entered(value, step)
    except LookupError as error:
        raise MissingError(show(path)) from error
    return value


def _entered(value: Json, step: str | int) -> Json:
    if isinstance(step, int) and isinstance(value, list):
        return value[step]
    if isinstance(step, str) and isinstance(value, dict):
        return value[step]
    raise KeyError(step)


def show(path: Path) -> str:
    """Return the path as it is written."""
    head, *rest = path
    return str(head) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest)


def compiled(template: Json) -> Filled:
    """Return a function that makes the value out of a scene.

    A text that is one hole and nothing else becomes what stands there, whatever its type. Holes within a text
    become text: strings as they are, anything else as JSON. The function raises MissingError.

    Raises:
        ValueError: a hole does not hold a path.
    """
    if isinstance(template, str):
        return _compiled_text(template)
    if isinstance(template, dict):
        fields = {str(name): compiled(value) for name, value in template.items()}
        return lambda scene: {name: fill(scene) for name, fill in fields.items()}
    if isinstance(template, list | tuple):
        items = [compiled(value) for value in template]
        return lambda scene: [fill(scene) for fill in items]
    return lambda _: template


def _compiled_text(text: str) -> Filled:
    pieces = _HOLE.split(text)  # text, hole, text, hole, ..., text
    if len(pieces) == 1:
        return lambda _: text
    holes = [_compiled_hole(hole) for hole in pieces[1::2]]
    if len(holes) == 1 and not pieces[0] and not pieces[2]:
        return holes[0]
    between = pieces[::2]

    def fill(scene: Scene) -> str:
        parts = [between[0]]
        for hole, following in zip(holes, between[1:], strict=True):
            parts += (_as_text(hole(scene)), following)
        return "".join(parts)

    return fill


def _compiled_hole(hole: str) -> Filled:
    written, bar, default = hole.partition("|")
    path = parse_path(written.strip())
    if not bar:
        return lambda scene: look_up(scene, path)
    instead = default.strip()

    def fill(scene: Scene) -> Json:
        try:
            value = look_up(scene, path)
        except MissingError:
            return instead
        return instead if value is None else value

    return fill


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
