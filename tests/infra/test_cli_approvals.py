"""`dramac approvals list` and `show`: on a Postgres with two sites' approvals; tests/acceptance has the answers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from infra.cli.approvals import time_left
from infra.cli.common import NOT_FOUND, USAGE
from projections.projector import Projector
from tests.databases import database_url
from tests.infra.cli_runs import dramac
from tests.infra.report_places import opened_database
from tests.projections.histories import OTHER_SITE, SITE, Stream
from tests.projections.journal import Journal, new_journal

Settings = dict[str, str]
HIDING = "Pay \u202e0001\u202c\u200b [red]now[/red]\x1b[2K"  # turns itself round, hides, and clears the line


@pytest_asyncio.fixture(scope="module")
async def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """The settings of SITE, where one approval waits and three don't; the other site has one, too."""
    async with opened_database(postgres_url) as (pool, name):
        journal = await new_journal(Journal())
        stream = Stream().created()
        waiting = stream.started("t1", requester="user:ann").assembled().thought("", "mail_send")
        waiting.approval_requested(arguments={"subject": HIDING, "to": ["a@example.com"]})
        stream.started("t2").assembled().thought("", "mail_send").approval_requested().approval_resolved(approved=True)
        edited = stream.started("t3").assembled().thought("", "mail_send").approval_requested(arguments={"to": "a"})
        edited.approval_edited({"to": "b"}).approval_resolved(approved=False, edition=1)
        stream.started("t4").assembled().thought("", "mail_send").approval_requested().cancelled()
        theirs = Stream(OTHER_SITE).created()
        theirs.started("t5").assembled().thought("", "mail_send").approval_requested().approval_escalated()
        await journal.tell(stream, theirs)
        await Projector(journal, pool).catch_up()
        yield {
            "DRAMAC_POSTGRES": database_url(postgres_url, name),
            "DRAMAC_KAFKA": "127.0.0.1:1",
            "DRAMAC_DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "DRAMAC_SITE": SITE,
        }


def listed(settings: Settings, status: str = "pending") -> list[dict[str, str]]:
    found: list[dict[str, str]] = dramac(settings, "approvals", "list", "--json", "--status", status).json
    return found


def test_what_waits_is_listed_and_only_the_sites_own(settings: Settings) -> None:
    (row,) = listed(settings)
    assert (row["requested_by"], row["tool_name"], row["risk_level"]) == ("user:ann", "mail_send", "high")
    told = dramac(settings, "approvals", "list").out
    for words in (row["id"], "greeter", "Send a mail", "high", "approver"):
        assert words in told
    (theirs,) = listed({**settings, "DRAMAC_SITE": OTHER_SITE})
    assert (theirs["role"], theirs["status"]) == ("manager", "pending")
    assert dramac(settings, "approvals", "show", theirs["id"]).code == NOT_FOUND
    nobody = {**settings, "DRAMAC_SITE": "33333333-3333-8333-8333-333333333333"}
    assert "nothing waits for a person" in dramac(nobody, "approvals", "list").out


@pytest.mark.parametrize(
    ("status", "number"), [("pending", 1), ("approved", 1), ("denied", 2), ("expired", 1), ("all", 5)]
)
def test_what_was_answered_is_listed_by_how(settings: Settings, status: str, number: int) -> None:
    rows = listed(settings, status)
    assert len(rows) == number
    assert status == "all" or {row["status"] for row in rows} == {status}


def test_an_approval_is_shown_with_all_that_would_be_done_and_nothing_hides(settings: Settings) -> None:
    (row,) = listed(settings)
    shown = dramac(settings, "approvals", "show", row["id"][:20])
    assert shown.code == 0
    for words in (
        "asked for by user:ann",
        "It leaves the house.",
        "mail_send",
        "a@example.com",
        "\\u{202e}0001\\u{202c}\\u{200b} [red]now[/red]",
        "role 'approver'",
        row["call_sha256"],
    ):
        assert words in shown.out
    assert not {"\u202e", "\u200b", "\x1b"} & set(shown.out)


def test_an_answered_one_says_by_whom_and_what_took_its_place(settings: Settings) -> None:
    first = next(row for row in listed(settings, "denied") if row["replaced_by"])
    shown = dramac(settings, "approvals", "show", first["id"]).out
    assert "denied by user:bob" in shown
    assert "“not so much”" in shown
    assert f"asked anew with other arguments: {first['replaced_by']}" in shown
    assert "user:bob changed the arguments" in dramac(settings, "approvals", "show", first["replaced_by"]).out


def test_an_unknown_approval_and_an_unknown_status_are_one_clear_line(settings: Settings) -> None:
    assert dramac(settings, "approvals", "show", "ffffffff").code == NOT_FOUND
    wrong = dramac(settings, "approvals", "list", "--status", "open")
    assert wrong.code == USAGE
    assert wrong.says_in_one_line("there is no status 'open'", "pending")


def test_arguments_that_are_none_are_refused_before_anything_is_asked(settings: Settings, tmp_path: Path) -> None:
    (row,) = listed(settings)
    edit = tmp_path / "edit.json"
    for content, words in (
        (b"[]", "one JSON object"),
        (b"{", "is not JSON"),
        (b'{"a": ' + b"1" * 300_000, "at most"),
        (b'{"amount": 18446744073709551616}', "can't be kept exactly"),
        (b'{"amount": NaN}', "can't be kept exactly"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
    ):
        edit.write_bytes(content)
        wrong = dramac(settings, "approvals", "approve", row["id"], "--edit", str(edit))
        assert wrong.code == USAGE
        assert wrong.says_in_one_line(str(edit), words)
    missing = dramac(settings, "approvals", "approve", row["id"], "--edit", str(tmp_path / "none.json"))
    assert missing.says_in_one_line("can't be read")


def test_the_time_that_is_left_is_told_in_words() -> None:
    until = datetime(2026, 1, 24, 9, 30, tzinfo=UTC)
    told = [time_left(until, until.timestamp() - left) for left in (86_400, 5_400, 61, 59, 0, -5)]
    assert told == ["24 h 0 min", "1 h 30 min", "1 min", "59 s", "no time", "no time"]
