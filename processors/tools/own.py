"""Tools written in Python: a function with a pydantic model of its arguments, found by the entry point `dramac.tools`.

class City(BaseModel):
    name: str = Field(min_length=1, description="The city's name.")

@tool(description="What the weather is like now.", risk="low", idempotent=True)
async def weather_now(city: City, call: ToolRequest) -> Json:
    return await asked(city.name)
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

from processors.tools.port import ToolError, ToolRequest
from processors.tools.validation import validator_for
from schemas.catalogue import RiskLevel, ToolDefinition
from schemas.errors import ConfigurationError
from schemas.governance import PermissionName
from schemas.message import Json

MODULE = "python"

Function = Callable[..., Json | Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class PythonTool:
    """A function as a tool. `takes_call`: it wants the request too, for its idempotency key and its site."""

    definition: ToolDefinition
    arguments: type[BaseModel]
    function: Function
    takes_call: bool

    async def __call__(self, request: ToolRequest) -> Json:
        """Make the call; a function that is not asynchronous runs in a thread, which nothing can interrupt.

        Raises:
            ToolError: the arguments do not fit; or what the function itself raises, as it is.
        """
        try:
            arguments = self.arguments.model_validate(request.arguments)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the arguments"
            raise ToolError(f"The arguments don't fit: {where}: {first['msg']}.") from None
        given = (arguments, request) if self.takes_call else (arguments,)
        if inspect.iscoroutinefunction(self.function):
            answer = await self.function(*given)
        else:
            answer = await asyncio.to_thread(self.function, *given)
        return answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer


def tool(
    *,
    description: str,
    risk: RiskLevel,
    idempotent: bool,
    name: str | None = None,
    display_name: str | None = None,
    category: str = "custom",
    version: str = "1",
    is_dangerous: bool = False,
    requires_permissions: Collection[str] = (),
    requires_modules: Collection[str] = (),
    rate_limit_per_minute: int | None = None,
    rate_limit_per_hour: int | None = None,
    timeout_s: float = 30.0,
) -> Callable[[Function], PythonTool]:
    """Return a decorator that makes a function a tool, named as the function is.

    `idempotent` says that a second call with the same `call_id` does nothing more: such a call is repeated after a
    crash. What is not idempotent is begun once; if its end is unknown, a person decides.
    """

    def made(function: Function) -> PythonTool:
        own_name = name or str(getattr(function, "__name__", ""))
        if unknown := set(requires_permissions) - set(get_args(PermissionName)):
            raise ConfigurationError(f"the tool {own_name!r} needs {min(unknown)!r}, which is no permission")
        arguments, takes_call = _signature(function, own_name)
        definition = ToolDefinition(
            name=own_name,
            version=version,
            display_name=display_name or own_name.replace("_", " ").title(),
            description=description,
            category=category,
            parameters=arguments.model_json_schema(),
            handler_type="internal",
            module=MODULE,
            action=own_name,
            requires_permissions=tuple(requires_permissions),
            requires_modules=tuple(requires_modules),
            rate_limit_per_minute=rate_limit_per_minute,
            rate_limit_per_hour=rate_limit_per_hour,
            is_dangerous=is_dangerous,
            risk=risk,
            idempotent=idempotent,
            timeout_s=timeout_s,
        )
        validator_for(definition)
        return PythonTool(definition, arguments, function, takes_call)

    return made


def _signature(function: Function, name: str) -> tuple[type[BaseModel], bool]:
    try:
        hints: dict[str, Any] = get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigurationError(f"the tool {name!r} has annotations that can't be read: {error}") from None
    model = hints.get(parameters[0]) if parameters else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or len(parameters) > 2:
        raise ConfigurationError(
            f"the tool {name!r} takes a pydantic model of its arguments, and after it the ToolRequest if it wants it"
        )
    return model, len(parameters) == 2


class PythonTools:
    """A `ModuleGateway` for such tools; an action is a tool's name."""

    def __init__(self, tools: Iterable[PythonTool]) -> None:
        self._tools = {each.definition.name: each for each in tools}

    @property
    def definitions(self) -> tuple[ToolDefinition, ...]:
        """The tools as models and the policy see them."""
        return tuple(each.definition for each in self._tools.values())

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Call the function.

        Raises:
            ToolError: there is none, or it refused in words for the model.
        """
        found = self._tools.get(action)
        if found is None:
            raise ToolError(f"The tool {request.tool.name} is not installed on this system.")
        return await found(request)
