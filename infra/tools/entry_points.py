"""Tools of installed distributions: every entry point of the group `dramac.tools` names one, or a list of them."""

from importlib.metadata import entry_points

from processors.tools.own import PythonTool
from schemas.errors import ConfigurationError

GROUP = "dramac.tools"


def installed_tools() -> tuple[PythonTool, ...]:
    """Return the tools that are installed here, by name.

    Raises:
        ConfigurationError: one can't be loaded, is no tool, or has a name that another one has.
    """
    found: dict[str, PythonTool] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        whose = f"the entry point {point.name!r} of {point.dist.name if point.dist is not None else 'a distribution'}"
        try:
            loaded = point.load()
        except ConfigurationError as error:
            raise ConfigurationError(f"{whose}: {error}") from None
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise ConfigurationError(f"{whose} can't be loaded: {type(error).__name__}: {said}") from error
        for each in loaded if isinstance(loaded, list | tuple) else (loaded,):
            if not isinstance(each, PythonTool):
                raise ConfigurationError(f"{whose} is no tool: decorate the function with processors.tools.own.tool")
            if each.definition.name in found:
                raise ConfigurationError(f"{whose}: there is a tool {each.definition.name!r} already")
            found[each.definition.name] = each
    return tuple(found[name] for name in sorted(found))
