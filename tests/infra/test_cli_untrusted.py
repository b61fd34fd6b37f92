"""Text that a model, a tool or an event wrote, on a person's terminal: it is read, and does nothing else."""

import io
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio
from rich.table import Table
from rich.text import Text

from infra.cli.common import PlainConsole
from projections.projector import Projector
from tests.infra.cli_runs import dramac
from tests.infra.report_places import opened_database
from tests.naughty import naughty_strings
from tests.projections.histories import SITE, Stream
from tests.projections.journal import Journal, new_journal

Settings = dict[str, str]
COMMANDS = "\x1b]0;title\x07\x1b[2J\x9b2J\u202eback\u2066"  # set the title, clear the screen, turn the line round
HOSTILE = f"[/bold] [link=http://evil.example]{COMMANDS}[/x] \\[/y] end\\"


@pytest_asyncio.fixture(scope="module")
async def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """The settings of SITE, where one run ended with hostile words and another asks for a call with hostile names."""
    async with opened_database(postgres_url) as (pool, name):
        journal = await new_journal(Journal())
        stream = Stream().created()
        stream.started("t1").assembled().thought(HOSTILE).completed(HOSTILE)
        asking = stream.started("t2").assembled().thought(HOSTILE, "mail_send", arguments={HOSTILE: HOSTILE})
        asking.approval_requested(arguments={HOSTILE: HOSTILE})
        await journal.tell(stream)
        await Projector(journal, pool).catch_up()
        yield {
            "DRAMAC_POSTGRES": urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}")),
            "DRAMAC_KAFKA": "127.0.0.1:1",
            "DRAMAC_DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "DRAMAC_SITE": SITE,
        }


def is_harmless(text: str) -> bool:
    return not set(text) & set("\x1b\x07\x9b\u202e\u2066")


def test_runs_are_shown_whatever_a_model_said_in_them(settings: Settings) -> None:
    for run in dramac(settings, "executions", "list", "--json").json:
        for command in (("show", run["id"]), ("tree", run["id"])):
            ran = dramac(settings, "executions", *command)
            assert ran.code == 0, ran.err
            assert is_harmless(ran.out)
    ended = next(run for run in dramac(settings, "executions", "list", "--json").json if run["status"] == "completed")
    assert "[/bold] [link=http://evil.example]" in dramac(settings, "executions", "show", ended["id"]).out


def test_what_waits_is_listed_and_shown_whatever_names_its_arguments_have(settings: Settings) -> None:
    (row,) = dramac(settings, "approvals", "list", "--json").json
    for command in (("list",), ("show", row["id"])):
        ran = dramac(settings, "approvals", *command)
        assert ran.code == 0, ran.err
        assert is_harmless(ran.out)
    assert "\\u{202e}" in dramac(settings, "approvals", "show", row["id"]).out


def test_no_naughty_string_does_anything_on_a_console() -> None:
    for text in (*naughty_strings(), COMMANDS, "\ud800", *map(chr, range(0x20))):
        console = PlainConsole(file=io.StringIO(), highlight=False)
        table = Table("a")
        table.add_row(Text(text))
        console.print(text, markup=False)
        console.print(table)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        shown.encode()
        assert all(each == "\n" or ord(each) >= 0x20 for each in shown)
        assert is_harmless(shown)
