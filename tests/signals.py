"""Signals of child processes."""

import signal


def hear_ctrl_c() -> None:
    """Undo what a shell does to what it starts in the background: there, SIGINT is ignored, and inherited so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
