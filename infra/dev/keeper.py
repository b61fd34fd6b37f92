"""The parent process of one server; it stops the server when its owner is gone, however the owner ended.

Started as a script by `process.py` with the interpreter alone (`python -I -S keeper.py LOG GRACE_S SIGNAL COMMAND...`):
it imports nothing but the standard library, so that it starts in some 20 ms. It says the server's pid on stdout.

Its stdin is a pipe whose other end only the owner holds. End of file there means: stop the server. So an orderly
stop and the death of the owner (`kill -9` too) take the same path. `PR_SET_PDEATHSIG` would need no process, but it
fires when the *thread* that started the server ends, and exists on Linux only.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

NOT_STARTED = 127  # as shells have it


def stop_when_owner_goes(server: subprocess.Popen[bytes], stop_signal: int, grace_s: float) -> None:
    """Wait for the end of stdin, then stop `server`: politely, after `grace_s` seconds by SIGKILL."""
    while os.read(0, 4096):
        pass
    server.send_signal(stop_signal)
    try:
        server.wait(grace_s)
    except subprocess.TimeoutExpired:
        server.kill()


def main() -> int:
    """Run the server until it ends; return its exit code (negative: the signal that ended it)."""
    log, grace_s, stop_signal, *command = sys.argv[1:]
    with Path(log).open("ab") as output:
        # S603: the command is our owner's.
        try:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603
        except OSError as error:
            output.write(f"ERROR {error}\n".encode())
            return NOT_STARTED
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.send_signal(int(stop_signal)))
    os.write(1, b"%d\n" % server.pid)
    os.close(1)
    threading.Thread(target=stop_when_owner_goes, args=(server, int(stop_signal), float(grace_s)), daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main() & 0xFF)
