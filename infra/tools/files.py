"""Files that describe tools of a site."""

from pathlib import Path

from pydantic import ValidationError

from infra.tools.http_tool import HttpTool
from infra.yaml_files import read_yaml
from schemas.errors import ConfigurationError

FILE_BYTES = 1024 * 1024


def read_tools(path: Path) -> tuple[HttpTool, ...]:
    """Return the tools that a YAML or JSON file describes: one, or a list of them.

    Raises:
        ConfigurationError: it can't be read, or one is wrong; the message names it and its field.
    """
    told = read_yaml(path, most_bytes=FILE_BYTES, what="a file of tools").told
    tools: list[HttpTool] = []
    for at, each in enumerate(told if isinstance(told, list) else [told]):
        try:
            tools.append(HttpTool.model_validate(each))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = each.get("name") if isinstance(each, dict) else None
            where = ".".join(str(part) for part in first["loc"])
            said = first["msg"].removeprefix("Value error, ")
            raise ConfigurationError(
                f"{path}: {name or f'tool {at + 1}'}: {where}: {said}".replace(": : ", ": ")
            ) from None
    if not tools:
        raise ConfigurationError(f"{path} describes no tool")
    return tuple(tools)
