"""The jars of Apache Kafka: fetched once from Maven Central by jgo, checked against `kafka_jars.lock`.

The lock names each jar with its size and sha256 (`kafka_lock.py` makes it). So nothing is resolved at run time, which
takes jgo 10 s, and nobody can slip in another jar.
"""

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.dev.progress import Progress
from schemas.errors import StackError

KAFKA_VERSION = "4.2.0"
LOCK = Path(__file__).with_name("kafka_jars.lock")
CONNECTIONS = 8
ATTEMPTS = 3
BACKOFF_S = 0.5  # times the number of the attempt
TIMEOUT_S = 20  # for an answer to begin, and for each piece of it
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    size: int  # bytes
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in our cache and in a Maven repository."""
        return f"{self.artifact}-{self.version}.jar"


class FetchCancelledError(StackError):
    """The fetch was cancelled by its caller."""


def read_lock() -> list[Jar]:
    """Return the jars that make up Kafka, in the order of the class path."""
    jars = []
    for line in LOCK.read_text().splitlines():
        coordinate, size, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, int(size), sha256))
    return jars


def default_cache_dir() -> Path:
    """Return the directory for what can be fetched again: `$XDG_CACHE_HOME/dramac`, by default `~/.cache/dramac`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "dramac"
    except RuntimeError as error:
        raise StackError("you have no home directory to keep Kafka in: set XDG_CACHE_HOME") from error


def kafka_home(cache_dir: Path) -> Path:
    """Return where in the cache this version of Kafka lies."""
    return cache_dir / f"kafka-{KAFKA_VERSION}"


def class_path(cache_dir: Path) -> str:
    """Return the class path of the jars in the cache, whether they are there or not."""
    return os.pathsep.join(str(kafka_home(cache_dir) / jar.file_name) for jar in read_lock())


def missing_jars(cache_dir: Path) -> list[Jar]:
    """Return the jars that are not in the cache; what is there was checked before it was put there."""
    return [jar for jar in read_lock() if not _has_size(kafka_home(cache_dir) / jar.file_name, jar.size)]


def fetch_jars(cache_dir: Path, progress: Progress, cancelled: threading.Event, repository: str | None = None) -> None:
    """Fetch the jars that are missing; waits for another process that is fetching them.

    Args:
        cache_dir: Where they are kept.
        progress: Is told how many bytes have come.
        cancelled: Set by the caller to give up.
        repository: Address of a Maven repository instead of Maven Central.

    Raises:
        StackError: a jar can't be had, or is not the one that the lock names.
    """
    home = kafka_home(cache_dir)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / ".lock"):
            for left_over in home.glob(".fetch-*"):  # of a process that died in the middle
                shutil.rmtree(left_over, ignore_errors=True)
            missing = missing_jars(cache_dir)
            if missing:
                for image in home.glob("*.aot"):  # is of the very files that it was recorded with
                    image.unlink()
                _fetch_all(missing, home, progress, cancelled, repository)
    except OSError as error:
        raise StackError(f"can't keep Kafka's jars in {str(home)!r} ({error}): set XDG_CACHE_HOME") from error


def _fetch_all(
    jars: list[Jar], home: Path, progress: Progress, cancelled: threading.Event, repository: str | None
) -> None:
    staging = home / f".fetch-{os.getpid()}"
    count = _byte_counter(sum(jar.size for jar in jars), progress, cancelled)
    count(0)
    context = _maven(staging, repository, count)
    try:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            futures = [pool.submit(_fetch, context, jar, home, cancelled) for jar in jars]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                cancelled.set()  # the others give up too
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _maven(staging: Path, repository: str | None, count: Callable[[int], None]) -> Any:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise StackError("the embedded Kafka needs more packages: pip install 'dramac-agents[stack]'") from error

    @contextmanager
    def counted(_file: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield count

    return MavenContext(
        resolver=PythonResolver(progress_callback=counted),
        repo_cache=staging,
        remote_repos={"central": repository} if repository else None,
        timeout=TIMEOUT_S,
    )


def _byte_counter(total: int, progress: Progress, cancelled: threading.Event) -> Callable[[int], None]:
    lock = threading.Lock()
    done = 0
    note = f"fetching, this once ({total / MEGABYTE:.0f} MB)"

    def count(more: int) -> None:
        nonlocal done
        if cancelled.is_set():
            raise FetchCancelledError("fetching Kafka was cancelled: start again to go on")
        with lock:
            done += more
            # Never "finished": the server is still to start.
            progress.step("Kafka", min(done, total - 1), total, note)

    return count


def _fetch(context: Any, jar: Jar, home: Path, cancelled: threading.Event) -> None:
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            fetched = Path(artifact.resolve())
            _check(fetched, jar)
        # jgo raises RuntimeError where a repository lacks the jar; what requests raises is an OSError.
        except (OSError, RuntimeError) as error:
            Path(artifact.cached_path).unlink(missing_ok=True)
            if attempt == ATTEMPTS:
                raise StackError(
                    f"can't fetch {jar.file_name!r} of Kafka from Maven Central ({_brief(error)}): check the network "
                    "(HTTPS_PROXY where there is a proxy) and start again, or name a Kafka of your own"
                ) from error
            cancelled.wait(BACKOFF_S * attempt)
        else:
            fetched.replace(home / jar.file_name)  # appears whole and checked, or not at all
            return


def _check(file: Path, jar: Jar) -> None:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != jar.sha256:
        raise RuntimeError(f"sha256 is {found[:12]}…, expected {jar.sha256[:12]}…")


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def _has_size(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
