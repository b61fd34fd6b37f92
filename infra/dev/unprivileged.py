"""Runs Postgres, which refuses to be root, for a person who is: as the user `nobody`.

No user is made and no directory is opened to others. Where `nobody` can't reach a path (the project lies below
/root, say), the process keeps the one capability to pass through directories that are closed to it.
"""

import os
import pwd
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import StackError

CAP_DAC_OVERRIDE = 1  # its bit; see capabilities(7). Containers have it by default, unlike CAP_DAC_READ_SEARCH
HINT = "start as an ordinary user, or name a Postgres of your own"


@dataclass(frozen=True, slots=True)
class Runner:
    """Whom a command runs as."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()  # goes before the command

    def own(self, path: Path) -> None:
        """Give `path` to the user that the command runs as."""
        if self.prefix:
            os.chown(path, self.uid, self.gid)


def runner_for(data: Path, reached: Iterable[Path]) -> Runner:
    """Return whom Postgres runs as: the person, or an unprivileged user in place of root.

    Args:
        data: Its data directory; if it exists and is another user's, that user.
        reached: Paths that it must reach.

    Raises:
        StackError: there is no way to run it here.
    """
    if os.geteuid() != 0:
        return Runner(os.geteuid(), os.getegid())
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(f"Postgres can't run as root, and there is no `setpriv` (util-linux) here: {HINT}")
    owner = data.stat().st_uid if data.exists() else 0
    uid, gid = (owner, data.stat().st_gid) if owner else _nobody()
    options = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    closed = next((path for path in reached if not is_open(path)), None)
    if closed is not None:
        if not _has_capability():
            raise StackError(f"Postgres can't run as root, and others can't reach {str(closed)!r}: {HINT}")
        options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return Runner(uid, gid, (setpriv, *options, "--"))


def _nobody() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise StackError(f"Postgres can't run as root, and there is no user 'nobody' here: {HINT}") from error
    return entry.pw_uid, entry.pw_gid


def is_open(path: Path) -> bool:
    """Tell if everyone can go through all directories above `path`."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents if parent.exists())


def _has_capability() -> bool:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) & 1 << CAP_DAC_OVERRIDE)
