"""Reading YAML files that people write: bounded, and what every one of them is told in the same words."""

from pathlib import Path
from typing import NamedTuple

import yaml

from schemas.errors import ConfigurationError
from schemas.message import Json

LEVELS = 64  # of lists and mappings: each costs more time than the one before
# What the library raises for a text that is none; of what a tag promises and a value is not, whatever comes up.
UNREADABLE = (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, AttributeError)


class YamlFile(NamedTuple):
    """What a file says, and the nodes that say in which line."""

    told: Json
    tree: yaml.Node | None


def read_yaml(path: Path, *, most_bytes: int, what: str) -> YamlFile:
    """Return what a file says; `what` it is stands in the sentence of one that is too long.

    Raises:
        ConfigurationError: it can't be read, is too long, is not YAML, has aliases, or is nested too deeply.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > most_bytes:
            raise ConfigurationError(f"{path}: {what} may have {most_bytes} bytes, this one has {len(raw)}")
        text = raw.decode()
        _check(path, text)
        return YamlFile(yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    except UNREADABLE as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _check(path: Path, text: str) -> None:
    """Check what would take long to read, before it is read."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            # A few lines of them could stand for gigabytes, or for themselves.
            raise ConfigurationError(f"{path}: aliases such as *name are not read here: write it out where it is used")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > LEVELS:
            raise ConfigurationError(f"{path} is nested deeper than {LEVELS} levels")
