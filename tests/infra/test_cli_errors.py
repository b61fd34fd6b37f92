"""What a person sees when something is not there or wrong: one line on standard error, and an exit code."""

import os
import ssl
from pathlib import Path

import pytest

from infra.cli import doctor
from infra.cli.common import UNAVAILABLE, USAGE
from tests.infra.cli_runs import dramac
from tests.streams.dumps import busy_place

NOWHERE = {"DRAMAC_KAFKA": "127.0.0.1:1", "DRAMAC_POSTGRES": "postgresql://u:secret@127.0.0.1:1/db"}
COMMANDS = [
    ("events", "tail"),
    ("events", "dump"),
    ("verify",),
    ("topics", "create"),
    ("topics", "check"),
    ("publish", "-"),
    ("api",),
    ("hooks", "list"),
    ("hooks", "create", "sdr"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_kafka_or_postgres_that_is_not_there(arguments: tuple[str, ...]) -> None:
    ran = dramac(NOWHERE, *arguments)
    assert ran.code == UNAVAILABLE
    assert ran.says_in_one_line("error: ", "does not answer")
    assert "secret" not in ran.err


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nothing_is_running(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path)}, *arguments)
    assert ran.code == UNAVAILABLE
    assert ran.says_in_one_line("nothing is running here", "dramac dev")


@pytest.mark.parametrize("arguments", [*COMMANDS, ("verify", "--dump", "x")], ids=" ".join)
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("DRAMAC_PARTITIONS", "x", "DRAMAC_PARTITIONS is wrong"),
        ("DRAMAC_KAFKAA", "127.0.0.1:9092", "did you mean DRAMAC_KAFKA?"),
        ("DRAMAC_MODULE_TOPICS", "module.events", "JSON"),
    ],
)
def test_a_wrong_setting(arguments: tuple[str, ...], setting: str, value: str, words: str) -> None:
    ran = dramac({**NOWHERE, setting: value}, *arguments)
    assert ran.code == USAGE
    assert ran.says_in_one_line(words)


def test_the_doctor_tells_of_a_wrong_setting_as_of_any_illness() -> None:
    ran = dramac({"DRAMAC_PARTITIONS": "x"}, "doctor", "--json")
    assert (ran.code, ran.err) == (1, "")
    found = {finding["name"]: finding for finding in ran.json["findings"]}
    assert found["settings"]["state"] == "failed"
    assert found["python"]["state"] == "ok"


def test_the_doctor_finds_servers_that_do_not_answer(tmp_path: Path) -> None:
    ran = dramac({**NOWHERE, "DRAMAC_DATA_DIR": str(tmp_path / "not" / "there")}, "doctor")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.count("✗") == 2
    assert "secret" not in ran.out


def test_the_doctor_tells_where_no_https_can_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._certificates().state == "ok"
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nowhere = ssl.get_default_verify_paths()._replace(openssl_capath=str(tmp_path / "none"))
    monkeypatch.setattr(doctor, "system_certificates", lambda: bare)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    found = doctor._certificates()
    assert (found.state, "ca-certificates" in found.text) == ("skipped", True)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "0a1b2c3d.0").touch()
    assert doctor._certificates().state == "ok"


def test_the_doctor_finds_a_data_directory_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path / "file" / "data")}, "doctor")
    assert ran.code == 1
    assert "set DRAMAC_DATA_DIR" in ran.out


@pytest.fixture
async def raw_dump() -> bytes:
    return await (await busy_place()).dump()


def test_a_dump_is_checked_where_nothing_is_running(raw_dump: bytes, tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_bytes(raw_dump)
    for settings in ({"DRAMAC_DATA_DIR": str(tmp_path)}, NOWHERE):
        ran = dramac(settings, "verify", "--dump", str(path))
        assert ran.code == 0
        assert ran.out == "verify: OK (33 events, 5 streams; 4 records that don't count)\n"
        assert ran.err == "without anchors\n"


def test_a_broken_dump_fails(raw_dump: bytes) -> None:
    ran = dramac(NOWHERE, "verify", "--dump", "-", stdin=raw_dump[:-20])
    assert ran.code == 1
    assert ran.out.startswith("broken: stream ")
    ran = dramac(NOWHERE, "verify", "--dump", "-", "--json", stdin=raw_dump[:-20])
    assert (ran.code, ran.json["ok"], ran.json["anchors"]) == (1, False, 0)


def test_a_dump_that_is_not_there(tmp_path: Path) -> None:
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path)}, "verify", "--dump", str(tmp_path / "no.jsonl"))
    assert ran.code == USAGE
    assert ran.says_in_one_line("can't be read", os.strerror(2))
