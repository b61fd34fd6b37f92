"""Topics taken away under a running system: it must refuse with a clear error, and never begin anew by itself."""

from collections.abc import Awaitable, Callable
from pathlib import Path

LOST: dict[str, Callable[[Path], Awaitable[list[str]]]] = {}
