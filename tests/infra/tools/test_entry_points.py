"""Tools of distributions that somebody installed."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.tools.entry_points import installed_tools
from processors.tools.call import call_tool
from processors.tools.own import PythonTools
from processors.tools.port import ToolRequest, ToolResult
from processors.tools.registry import BUILTIN, Registry
from schemas.errors import ConfigurationError
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.message import JsonObject

SOURCE = """
import threading
from pydantic import BaseModel, Field
from processors.tools.own import tool
from processors.tools.port import ToolError, ToolRequest

class City(BaseModel):
    name: str = Field(min_length=1, description="The city's name.")

class Weather(BaseModel):
    sky: str
    thread: str

@tool(description="What the weather is like now.", risk="low", idempotent=True)
async def weather_now(city: City, call: ToolRequest):
    if city.name == "Atlantis":
        raise ToolError("Nobody knows where that is.")
    return {"city": city.name, "site": call.site_id, "key": call.call_id}

@tool(
    description="Paint the sky.", risk="high", idempotent=False, name="sky_paint",
    requires_permissions=["make_api_calls"],
)
def paint(city: City) -> Weather:
    return Weather(sky="blue", thread=threading.current_thread().name)

BOTH = [weather_now, paint]
"""


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("skies", "broken"):
        sys.modules.pop(name, None)


def install(folder: Path, source: str, points: str, name: str = "skies") -> None:
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[dramac.tools]\n{points}\n")


async def called(name: str, arguments: JsonObject) -> ToolResult:
    tools = PythonTools(installed_tools())
    definition = Registry((*BUILTIN, *tools.definitions)).get(name)
    request = ToolRequest(CallId("c"), definition, arguments, SiteId("site"), AgentId("a"), ExecutionId("r"), "why")
    return await call_tool(lambda r: tools.call("python", r.tool.action or "", r), request)


async def test_functions_of_a_distribution_are_tools(site_packages: Path) -> None:
    install(site_packages, SOURCE, "all = skies:BOTH")
    painting, looking = (each.definition for each in installed_tools())
    assert (painting.name, painting.risk, painting.idempotent) == ("sky_paint", "high", False)
    assert painting.requires_permissions == ("make_api_calls",)
    assert (looking.name, looking.display_name, looking.idempotent) == ("weather_now", "Weather Now", True)
    assert looking.parameters["properties"]["name"]["description"] == "The city's name."
    found = await called("weather_now", {"name": "Ghent"})
    assert found == ToolResult(output={"city": "Ghent", "site": "site", "key": "c"})
    painted = await called("sky_paint", {"name": "Ghent"})
    assert painted.output["sky"] == "blue"
    assert painted.output["thread"] != threading.current_thread().name
    assert (await called("weather_now", {"name": "Atlantis"})).error == "Nobody knows where that is."
    assert "String should have at least 1 character" in str((await called("weather_now", {"name": ""})).error)


@pytest.mark.parametrize(
    ("source", "points", "said"),
    [
        ("raise RuntimeError('no\\nway')", "a = broken:a", "can't be loaded: RuntimeError: no way"),
        ("a = 1", "a = broken:a", "is no tool"),
        ("from skies import paint as a", "a = broken:a", "there is a tool 'sky_paint' already"),
        (
            "from processors.tools.own import tool\n"
            "@tool(description='', risk='low', idempotent=True)\ndef a(x: int): 0",
            "a = broken:a",
            "takes a pydantic model",
        ),
    ],
)
def test_what_can_not_be_used_is_told_with_whose_it_is(
    site_packages: Path, source: str, points: str, said: str
) -> None:
    install(site_packages, SOURCE, "all = skies:BOTH")
    install(site_packages, source, points, "broken")
    with pytest.raises(ConfigurationError, match=said):
        installed_tools()


def test_without_distributions_there_are_none() -> None:
    assert installed_tools() == ()
