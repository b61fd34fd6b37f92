"""Files that describe tools of a site."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from infra.tools.http_tool import HttpTool
from schemas.errors import ConfigurationError

FILE_BYTES = 1024 * 1024


def read_tools(path: Path) -> tuple[HttpTool, ...]:
    """Return the tools that a YAML or JSON file describes: one, or a list of them.

    Raises:
        ConfigurationError: it can't be read, or one is wrong; the message names it and its field.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > FILE_BYTES:
            raise ConfigurationError(f"{path}: a file of tools may have {FILE_BYTES} bytes, this one has {len(raw)}")
        text = raw.decode()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            # A few lines of them could stand for gigabytes, or for themselves.
            raise ConfigurationError(f"{path}: aliases such as *name are not read here: write it out where it is used")
        told = yaml.safe_load(text)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
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
