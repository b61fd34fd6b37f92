"""Reports: numbers from data, words from the model."""

from collections.abc import Collection, Mapping

from processors.reports.template import Template
from schemas.catalogue import ToolDefinition
from schemas.message import JsonObject
from schemas.reports import GENERATE_REPORT

REPORTS_MODULE = "reports"
GENERATE = "generate"

_DATE: JsonObject = {"type": "string", "format": "date"}


def report_tool(templates: Mapping[str, Template]) -> ToolDefinition:
    """Return the tool that fills one of `templates`; the model learns of each what it is to write."""
    names = sorted(templates)
    return ToolDefinition(
        name=GENERATE_REPORT,
        display_name="Generate Report",
        description=(
            "Make a report from a template, and keep it. All numbers, tables and charts are filled in from the site's "
            "data; you write the narrative fields only. Look at the data first, so that your words fit the numbers."
        ),
        category="data",
        parameters={
            "type": "object",
            "properties": {
                "template": {
                    "type": "string",
                    "enum": names,
                    "description": "; ".join(f"{name}: {templates[name].description}" for name in names),
                },
                "period": {
                    "type": "object",
                    "description": "UTC days, both included; leave it out for the template's own last period.",
                    "properties": {"first": _DATE, "last": _DATE},
                    "required": ["first", "last"],
                    "additionalProperties": False,
                },
                "narrative": {
                    "type": "object",
                    "description": " ".join(_fields(templates[name]) for name in names),
                    "maxProperties": 20,
                    "additionalProperties": {
                        "anyOf": [
                            {"type": "string", "maxLength": 4_000},
                            {"type": "array", "items": {"type": "string", "maxLength": 4_000}, "maxItems": 20},
                        ]
                    },
                },
            },
            "required": ["template", "narrative"],
            "additionalProperties": False,
        },
        handler_type="internal",
        module=REPORTS_MODULE,
        action=GENERATE,
        timeout_s=30.0,
    )


def limited_to(tool: ToolDefinition, names: Collection[str]) -> ToolDefinition | None:
    """Return the report tool for an agent that may use only the templates of these `names`; None if there are none."""
    parameters = tool.parameters
    known = parameters["properties"]["template"]
    allowed = [name for name in known["enum"] if name in names]
    if not allowed:
        return None
    template = {**known, "enum": allowed}
    return tool.model_copy(
        update={"parameters": {**parameters, "properties": {**parameters["properties"], "template": template}}}
    )


def _fields(template: Template) -> str:
    fields = "; ".join(
        f"{name} ({'text' if field.kind == 'text' else 'list of texts'}{'' if field.required else ', optional'}) - "
        f"{field.about}"
        for name, field in template.narrative.items()
    )
    return f"For {template.name}: {fields or 'nothing'}"
