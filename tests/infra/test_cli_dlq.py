"""`dramac dlq` on a Kafka of its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.cli.common import FAILED, NOT_FOUND, REFUSED, USAGE
from infra.cli.dlq import hexdump, preview
from infra.dev.kafka import KafkaServer
from streams.dead_letters import send_dead_letter
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from streams.log import Record
from streams.topics import COMMANDS, MODULE_EVENTS
from tests.infra.cli_runs import dramac

Settings = dict[str, str]

BINARY = Record(COMMANDS, 0, 5, 0, b"agent", b"\x00\xff[red]" + b"x" * 600, (("ce_type", b"ai.x"), ("raw", b"\xff")))
TEXT = Record(MODULE_EVENTS, 1, 9, 0, None, b'{"n": 1}', ())


@pytest_asyncio.fixture(scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """The settings, with two dead letters."""
    home = tmp_path_factory.mktemp("dlq")
    async with KafkaServer(home / "kafka") as server:
        await create_topics(server.address, partitions=2, replication_factor=1, module_topics=(MODULE_EVENTS,))
        async with KafkaLog(server.address) as log:
            await send_dead_letter(log, BINARY, "it is [bold]no[/bold] command\x1b[31m\nat all")
            await send_dead_letter(log, TEXT, "no event")
        yield {"DRAMAC_KAFKA": server.address, "DRAMAC_DATA_DIR": str(home / "data"), "DRAMAC_USER": "ann"}


def test_letters_are_listed_the_newest_first(filled: Settings) -> None:
    ran = dramac(filled, "dlq", "list")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["module.events/1/9", "ai.commands/0/5"]
    assert "it is [bold]no[/bold] command" in lines[2]
    assert "\x1b" not in ran.out
    assert len(dramac(filled, "dlq", "list", "--limit", "1", "--json").json) == 1


def test_a_letter_is_shown_with_its_bytes(filled: Settings) -> None:
    ran = dramac(filled, "dlq", "show", "ai.commands/0/5")
    assert (ran.code, ran.err) == (0, "")
    assert "stood in ai.commands, partition 0, offset 5" in ran.out
    assert "header   raw: ff" in ran.out
    assert "value    607 bytes" in ran.out
    assert "00000000  00 ff 5b 72 65 64 5d 78" in ran.out
    assert "… 95 bytes more" in ran.out
    assert "\x1b" not in ran.out
    told = dramac(filled, "dlq", "show", "ai.commands/0/5", "--json").json
    assert told["value"] == {"hex": (BINARY.value or b"").hex()}
    assert told["headers"] == [["ce_type", "ai.x"], ["raw", {"hex": "ff"}]]
    assert (told["key"], told["redriven"]) == ("agent", None)


def test_a_letter_that_is_not_there(filled: Settings) -> None:
    ran = dramac(filled, "dlq", "show", "ai.commands/0/6")
    assert ran.code == NOT_FOUND
    assert ran.says_in_one_line("there is no dead letter 'ai.commands/0/6'")


def test_what_to_redrive_must_be_said(filled: Settings) -> None:
    assert dramac(filled, "dlq", "redrive").code == USAGE
    assert dramac(filled, "dlq", "redrive", "ai.commands/0/5", "--all").code == USAGE
    ran = dramac(filled, "dlq", "redrive", "--all")
    assert ran.code == USAGE
    assert ran.says_in_one_line("2 records would be sent again: add --yes")


async def test_a_letter_is_redriven_once_byte_for_byte(filled: Settings) -> None:
    ran = await asyncio.to_thread(dramac, filled, "dlq", "redrive", "ai.commands/0/5")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("ai.commands/0/5: sent again, now ai.commands/0/1")
    again = await asyncio.to_thread(dramac, filled, "dlq", "redrive", "ai.commands/0/5")
    assert again.code == REFUSED
    assert again.says_in_one_line("was redriven at", "by 'user:ann'")
    async with KafkaLog(filled["DRAMAC_KAFKA"]) as log, log.reader(COMMANDS, {0: 1}) as reader:
        (sent,) = await reader.poll(timeout_s=5)
    assert (sent.key, sent.value, sent.headers) == (BINARY.key, BINARY.value, BINARY.headers)
    rest = await asyncio.to_thread(dramac, filled, "dlq", "redrive", "--all", "--yes", "--json")
    assert [one["id"] for one in rest.json] == ["module.events/1/9"]
    none = await asyncio.to_thread(dramac, filled, "dlq", "redrive", "--all")
    assert none.out == "nothing to redrive\n"
    listed = await asyncio.to_thread(dramac, filled, "dlq", "list", "--json")
    assert [one["redriven"]["to"] for one in listed.json] == ["module.events/1/0", "ai.commands/0/1"]


async def test_a_letter_that_cant_be_sent_does_not_keep_the_others(filled: Settings) -> None:
    async with KafkaLog(filled["DRAMAC_KAFKA"]) as log:
        await send_dead_letter(log, TEXT._replace(topic="no.such"), "first")
        await send_dead_letter(log, TEXT._replace(offset=10), "second")
    ran = await asyncio.to_thread(dramac, filled, "dlq", "redrive", "--all", "--yes", "--json")
    assert ran.code == FAILED
    assert [one["id"] for one in ran.json] == ["module.events/1/10"]
    assert ran.err.startswith("no.such/1/9: not sent: there is no topic 'no.such'")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (None, "none"),
        (b"", ""),
        (b"plain", "plain"),
        (b"\x1b[2J", "1b 5b 32 4a"),
        (b"x" * 61, "x" * 59 + "…"),
        (b"\xff" * 21, "ff " * 19 + "ff …"),
        ("é".encode() * 200, "é" * 59 + "…"),
    ],
)
def test_a_preview_is_one_harmless_line(raw: bytes | None, told: str) -> None:
    assert preview(raw) == told


def test_a_hexdump_shows_offsets_hex_and_text() -> None:
    assert hexdump(b"A\x00") == ["00000000  41 00                                            A."]
    assert len(hexdump(b"x" * 513)) == 33
