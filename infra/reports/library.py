"""The templates there are: those that come with the project, and those of a folder that the settings name."""

from collections.abc import Mapping
from pathlib import Path

from processors.reports.template import Template, parse_template
from schemas.errors import ConfigurationError

SHIPPED = Path(__file__).with_name("templates")
SUFFIX = ".md"


def load_templates(folder: Path | None = None) -> Mapping[str, Template]:
    """Return all templates by name; one of `folder` stands in for the shipped one of its name.

    Raises:
        ConfigurationError: a template can't be read or is none, or the folder is not there.
    """
    found = _read_all(SHIPPED)
    if folder is not None:
        if not folder.is_dir():
            raise ConfigurationError(f"DRAMAC_REPORT_TEMPLATES: there is no folder {str(folder)!r}")
        found |= _read_all(folder)
    return dict(sorted(found.items()))


def _read_all(folder: Path) -> dict[str, Template]:
    return {path.stem: _read(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}


def _read(path: Path) -> Template:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the report template {str(path)!r} can't be read: {error}") from None
    return parse_template(path.stem, text)
