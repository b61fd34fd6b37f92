"""The tools there are, and which of them an agent sees."""

from collections.abc import Collection, Iterable

from processors.tools.builtin import calendar, communication, crm, data, delegation, loop, memory, system, tasks, web
from processors.tools.globs import permits
from processors.tools.validation import validator_for
from schemas.catalogue import ToolDefinition
from schemas.errors import ConfigurationError, NotFoundError

BUILTIN: tuple[ToolDefinition, ...] = (
    *crm.TOOLS,
    *communication.TOOLS,
    *tasks.TOOLS,
    *data.TOOLS,
    *web.TOOLS,
    *system.TOOLS,
    *delegation.TOOLS,
    *calendar.TOOLS,
    *loop.TOOLS,
    *memory.TOOLS,
)


class Registry:
    """Tool definitions by name. `Registry(BUILTIN)` has the built-in ones."""

    __slots__ = ("_tools",)

    def __init__(self, tools: Iterable[ToolDefinition] = ()) -> None:
        self._tools: dict[str, ToolDefinition] = {}
        for tool in tools:
            self.register(tool)

    def register(self, tool: ToolDefinition) -> None:
        """Add a tool.

        Raises:
            ConfigurationError: the name is taken, or the parameters are not a usable JSON Schema.
        """
        if tool.name in self._tools:
            raise ConfigurationError(f"there is a tool {tool.name!r} already: give this one another name")
        validator_for(tool)
        self._tools[tool.name] = tool

    def get(self, name: str) -> ToolDefinition:
        """Return the tool of that name.

        Raises:
            NotFoundError: there is none.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise NotFoundError(f"there is no tool {name[:80]!r}; known are: {', '.join(sorted(self._tools))}")
        return tool

    def has(self, name: str) -> bool:
        """Whether there is a tool of that name."""
        return name in self._tools

    def visible(
        self,
        allowed: Collection[str],
        denied: Collection[str],
        modules: Collection[str],
        more: Iterable[ToolDefinition] = (),
    ) -> tuple[ToolDefinition, ...]:
        """Return, by name, the tools that the globs permit (deny first) and whose modules the site has.

        `more` are tools of the site alone; none of them takes the place of one that is registered. The order is part
        of a catalogue's sha256, so it does not depend on that of registration.
        """
        tools = {**{tool.name: tool for tool in more}, **self._tools}
        return tuple(
            tool
            for name, tool in sorted(tools.items())
            if permits(allowed, denied, name) and all(module in modules for module in tool.requires_modules)
        )
