"""What a model writes into a report: checked against the template, and turned into Markdown that is only text."""

from collections.abc import Mapping

from processors.reports.markdown import bullets, escape_text
from processors.reports.template import NarrativeField, Template
from processors.tools.port import ToolError
from schemas.message import Json


def written(template: Template, given: Mapping[str, Json]) -> dict[str, str]:
    """Return the Markdown of each narrative field; empty where an optional one was left out.

    Raises:
        ToolError: a field is missing, unknown, of the wrong kind or too long; all are named.
    """
    known = template.narrative
    faults = [f"there is no field {name[:60]!r}" for name in sorted(set(given) - set(known))]
    texts: dict[str, str] = {}
    for name, field in known.items():
        value = given.get(name)
        fault = _fault(field, value)
        if fault is None:
            texts[name] = _markdown(value)
            if value is not None and field.required and not texts[name]:
                fault = "must say something"
        if fault is not None:
            faults.append(f"{name} {fault}")
    if faults:
        fields = "; ".join(f"{name} ({_kind(field)}): {field.about}" for name, field in known.items()) or "none"
        raise ToolError(f"The narrative does not fit {template.name}: {'; '.join(faults[:5])}. Its fields: {fields}")
    return texts


def _fault(field: NarrativeField, value: Json) -> str | None:
    if value is None:
        return "is missing" if field.required else None
    if field.kind == "text":
        if not isinstance(value, str):
            return "must be a text"
        return None if len(value) <= field.max_chars else f"must have at most {field.max_chars} characters"
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return "must be a list of texts"
    if len(value) > field.max_items:
        return f"must have at most {field.max_items} items"
    chars = sum(len(item) for item in value)
    return None if chars <= field.max_chars else f"must have at most {field.max_chars} characters in all"


def _markdown(value: Json) -> str:
    if value is None:
        return ""
    return escape_text(value) if isinstance(value, str) else bullets(value)


def _kind(field: NarrativeField) -> str:
    kind = "a text" if field.kind == "text" else f"a list of up to {field.max_items} texts"
    return kind if field.required else f"{kind}, optional"
