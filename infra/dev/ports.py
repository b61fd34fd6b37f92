"""TCP ports of the embedded servers on the loopback interface."""

import json
import random
import socket
from pathlib import Path

from schemas.errors import StackError

LOOPBACK = "127.0.0.1"
# Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections: a client that
# knocks while the server is down can't get the server's own port, and the port is still free after a restart.
CANDIDATES = range(20_000, 32_000)
ATTEMPTS = 200


class PortTakenError(StackError):
    """Another program listens on the port that a server was to have."""


def is_free(port: int) -> bool:
    """Tell if a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of an earlier server in TIME_WAIT don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def answers(port: int, timeout_s: float = 1.0) -> bool:
    """Tell if something accepts connections on `port`."""
    try:
        socket.create_connection((LOOPBACK, port), timeout_s).close()
    except OSError:
        return False
    return True


def choose_ports(kept: Path, count: int, *, fixed: int | None = None) -> list[int]:
    """Return `count` free ports and keep them in the file `kept`: the same as last time if they are still free.

    Args:
        kept: JSON file with the ports of the last run.
        count: How many ports are needed.
        fixed: The first port, where the caller asks for one.

    Raises:
        PortTakenError: `fixed` is in use.
        StackError: no free port was found.
    """
    if fixed is not None and not is_free(fixed):
        raise PortTakenError(f"port {fixed} on {LOOPBACK} is taken: stop what listens there, or ask for another port")
    earlier = _read(kept)
    ports = [fixed] if fixed is not None else []
    for port in earlier[len(ports) : count]:
        if port not in ports and is_free(port):
            ports.append(port)
    for _ in range(ATTEMPTS):
        if len(ports) == count:
            break
        port = random.choice(CANDIDATES)  # noqa: S311 - no secret
        if port not in ports and is_free(port):
            ports.append(port)
    else:
        raise StackError(f"no free port on {LOOPBACK} between {CANDIDATES.start} and {CANDIDATES.stop}: free some")
    if ports != earlier:
        kept.write_text(json.dumps(ports))
    return ports


def _read(kept: Path) -> list[int]:
    try:
        ports = json.loads(kept.read_text())
    except (OSError, ValueError):
        return []
    return [port for port in ports if isinstance(port, int)] if isinstance(ports, list) else []
