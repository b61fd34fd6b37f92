"""`dramac tools`: registering tools of a site, and approving what MCP servers offer."""

import asyncio
import json
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from infra.cli.common import NOT_FOUND, REFUSED, USAGE
from processors.tools.registry import BUILTIN
from projections.db import Pool
from schemas.ids import random_id
from tests.databases import database_url
from tests.infra.cli_runs import Ran, dramac
from tests.infra.tools.mcp_servers import Shelf, serving_mcp
from tests.infra.tools.samples import CANCEL, SECRET

Settings = dict[str, str]


@pytest_asyncio.fixture(scope="module")
async def settings(database: tuple[Pool, str], postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return {
        "DRAMAC_POSTGRES": database_url(postgres_url, database[1]),
        "DRAMAC_KAFKA": "127.0.0.1:1",
        "DRAMAC_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "DRAMAC_SITE": random_id(),
        "DRAMAC_TOOL_HOSTS": '["api.example.com"]',
        "DRAMAC_SECRET_KEYS": "k1:" + "AQ" * 21 + "A=",
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tool.yaml"
    path.write_text(yaml.safe_dump(CANCEL))
    return path


def test_a_tool_is_added_shown_changed_and_removed_and_its_secret_never_told(settings: Settings, file: Path) -> None:
    assert dramac(settings, "tools", "add", str(file)).code == USAGE  # without its secret
    added = dramac(settings, "tools", "add", str(file), "--secret-from", "-", "--json", stdin=SECRET + b"\n")
    assert added.json == [{"name": "order_cancel", "version": 1, "new": True}]
    file.write_text(yaml.safe_dump({**CANCEL, "risk": "critical"}))
    assert dramac(settings, "tools", "add", str(file)).out.strip() == "order_cancel: version 2"
    assert dramac(settings, "tools", "add", str(file)).out.strip() == "order_cancel: version 2, unchanged"
    shown = dramac(settings, "tools", "show", "order_cancel", "--json")
    assert (shown.json["version"], shown.json["has_secret"], shown.json["definition"]["risk"]) == (2, True, "critical")
    told = dramac(settings, "tools", "show", "order_cancel")
    assert "POST https://api.example.com/orders/{order_id}/cancel" in told.out
    listed = dramac(settings, "tools", "list", "--json").json
    assert {"order_cancel", *(tool.name for tool in BUILTIN)} == {row["name"] for row in listed}
    assert [row["name"] for row in dramac(settings, "tools", "list", "--own", "--json").json] == ["order_cancel"]
    for ran in (shown, told, dramac(settings, "tools", "list")):
        assert SECRET.decode() not in ran.out + ran.err
    assert dramac(settings, "tools", "remove", "order_cancel").code == 0
    assert dramac(settings, "tools", "show", "order_cancel").code == NOT_FOUND


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "crm_get_contact"}, "a tool of the system"),
        ({"http": {"url": "https://other.example.com/"}}, "DRAMAC_TOOL_HOSTS"),
        ({"http": {"url": "http://169.254.169.254/latest"}}, "only public websites"),
        ({"http": {**CANCEL["http"], "url": "http://api.example.com/{order_id}"}}, "https only"),
        ({"risk": "none"}, "risk"),
    ],
)
def test_what_can_not_be_registered_is_told_in_one_line(
    settings: Settings, file: Path, changes: dict[str, object], said: str
) -> None:
    file.write_text(yaml.safe_dump({**CANCEL, **changes}))
    ran = dramac(settings, "tools", "add", str(file), "--secret-from", "-", stdin=SECRET)
    assert ran.code == USAGE
    assert ran.says_in_one_line(said)


async def test_a_servers_tools_are_reviewed_approved_and_reviewed_again(settings: Settings) -> None:
    shelf = Shelf()
    async with serving_mcp(shelf) as address:
        mine = {**settings, "DRAMAC_TOOL_HOSTS": json.dumps([address])}

        async def mcp(*arguments: str) -> Ran:
            return await asyncio.to_thread(dramac, mine, "tools", "mcp", *arguments)

        assert (await mcp("add", "books", "https://elsewhere.example.com/mcp")).code == USAGE
        assert (await mcp("add", "books", f"http://{address}/mcp")).code == 0
        rows = {row["tool"]: row for row in (await mcp("review", "books", "--json")).json}
        assert {row["state"] for row in rows.values()} == {"new"}
        sha256 = rows["find_book"]["sha256"]
        assert (await mcp("approve", "books", "find_book")).code == NOT_FOUND
        assert (await mcp("approve", "books", "find_book@00000000")).code == REFUSED
        assert (await mcp("approve", "books", f"find_book@{sha256[:12]}", "--risk", "low")).code == 0
        shelf.described = "Another \u202e story."
        ran = await mcp("review", "books")
        assert "changed  find_book" in ran.out
        assert r"Another \u{202e} story." in ran.out
        assert "Find a book by its title." in ran.out
        assert (await mcp("approve", "books", f"find_book@{sha256[:12]}")).says_in_one_line("review it again")
        listed = (await mcp("list", "--json")).json
        assert [(row["name"], row["approved"]) for row in listed] == [("books", ["mcp_books_find_book"])]
        own = (await asyncio.to_thread(dramac, mine, "tools", "list", "--own", "--json")).json
        assert [(row["name"], row["from"], row["risk"]) for row in own] == [("mcp_books_find_book", "books", "low")]
        assert (await mcp("remove", "books")).code == 0
        assert (await mcp("review", "books")).code == NOT_FOUND
