"""Reading YAML files that people write: bounded, and what every one of them is told in the same words."""

from pathlib import Path
from typing import NamedTuple

import yaml

from schemas.errors import ConfigurationError
from schemas.message import Json


class YamlFile(NamedTuple):
    """What a file says, and the nodes that say in which line."""

    told: Json
    tree: yaml.Node | None


def read_yaml(path: Path, *, most_bytes: int, what: str) -> YamlFile:
    """Return what a file says; `what` it is stands in the sentence of one that is too long.

    Raises:
        ConfigurationError: it can't be read, is too long, is not YAML, or has aliases.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > most_bytes:
            raise ConfigurationError(f"{path}: {what} may have {most_bytes} bytes, this one has {len(raw)}")
        text = raw.decode()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            # A few lines of them could stand for gigabytes, or for themselves.
            raise ConfigurationError(f"{path}: aliases such as *name are not read here: write it out where it is used")
        return YamlFile(yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
