"""Kafka's jars come whole and checked, or not at all; from a repository on this machine."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from infra.dev import kafka_jars
from infra.dev.kafka_jars import Jar, fetch_jars, kafka_home, missing_jars, read_lock
from infra.dev.progress import Silence
from schemas.errors import StackError

CONTENTS = {f"part-{n}": f"jar {n}".encode() * 5_000 for n in range(3)}


class Steps(Silence):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[float | None, float | None, str]] = []

    def step(self, name: str, done: float | None = None, total: float | None = None, note: str = "") -> None:
        assert name == "Kafka"
        self.told.append((done, total, note))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Maven repository with three jars, which make up Kafka for once."""
    root = tmp_path / "repository"
    lines = []
    for name, content in CONTENTS.items():
        folder = root / "org" / "example" / name / "1.0"
        folder.mkdir(parents=True)
        (folder / f"{name}-1.0.jar").write_bytes(content)
        lines.append(f"org.example:{name}:1.0 {len(content)} {hashlib.sha256(content).hexdigest()}\n")
    lock = tmp_path / "lock"
    lock.write_text("".join(lines))
    monkeypatch.setattr(kafka_jars, "LOCK", lock)
    monkeypatch.setattr(kafka_jars, "BACKOFF_S", 0.0)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetched(cache: Path) -> dict[str, bytes]:
    return {file.name.removesuffix("-1.0.jar"): file.read_bytes() for file in kafka_home(cache).glob("*.jar")}


def test_the_lock_names_every_jar_of_kafka_once() -> None:
    jars = read_lock()
    assert len({jar.file_name for jar in jars}) == len(jars) == 46
    assert Jar("org.apache.kafka", "kafka_2.13", "4.2.0", *_size_and_hash(jars, "kafka_2.13")) in jars
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in jars)


def _size_and_hash(jars: list[Jar], artifact: str) -> tuple[int, str]:
    return next((jar.size, jar.sha256) for jar in jars if jar.artifact == artifact)


def test_jars_are_fetched_and_progress_is_told_in_bytes(tmp_path: Path, repository: str) -> None:
    steps = Steps()
    fetch_jars(tmp_path / "cache", steps, threading.Event(), repository)
    assert fetched(tmp_path / "cache") == CONTENTS
    assert missing_jars(tmp_path / "cache") == []
    total = sum(map(len, CONTENTS.values()))
    assert {step[1] for step in steps.told} == {total}
    assert max(step[0] or 0 for step in steps.told) == total - 1


def test_a_fetch_that_died_in_the_middle_is_taken_up(tmp_path: Path, repository: str) -> None:
    home = kafka_home(tmp_path / "cache")
    (home / ".fetch-1" / "org").mkdir(parents=True)
    (home / "part-0-1.0.jar").write_bytes(CONTENTS["part-0"])
    (home / "part-1-1.0.jar").write_bytes(CONTENTS["part-1"][:100])
    (home / "java-25.aot").touch()
    assert [jar.artifact for jar in missing_jars(tmp_path / "cache")] == ["part-1", "part-2"]

    fetch_jars(tmp_path / "cache", Silence(), threading.Event(), repository)

    assert fetched(tmp_path / "cache") == CONTENTS
    assert {file.name for file in home.iterdir() if file.suffix != ".jar"} == {".lock"}


def test_a_jar_with_other_content_is_refused(tmp_path: Path, repository: str) -> None:
    content = CONTENTS["part-1"]
    (tmp_path / "repository/org/example/part-1/1.0/part-1-1.0.jar").write_bytes(b"!" + content[1:])
    with pytest.raises(StackError, match=r"'part-1-1.0.jar'.*sha256"):
        fetch_jars(tmp_path / "cache", Silence(), threading.Event(), repository)
    assert "part-1" not in fetched(tmp_path / "cache")


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, repository: str) -> None:
    with pytest.raises(StackError, match=r"can't fetch .*check the network.*HTTPS_PROXY.*start again"):
        fetch_jars(tmp_path / "cache", Silence(), threading.Event(), "http://127.0.0.1:1")


def test_a_cancelled_fetch_ends_soon(tmp_path: Path, repository: str) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(StackError, match="cancelled"):
        fetch_jars(tmp_path / "cache", Silence(), cancelled, repository)


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kafka_jars.default_cache_dir() == tmp_path / "dramac"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, so to be ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kafka_jars.default_cache_dir() == tmp_path / ".cache" / "dramac"
