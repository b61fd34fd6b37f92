"""Logging for people at a terminal and for programs that collect lines."""

import logging
import sys

_OURS = ("schemas", "streams", "processors", "projections", "infra")


def configure_logging(level: str) -> None:
    """Send our log to stderr at `level`; libraries speak only of errors that we don't handle ourselves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
    # These log as errors what we retry and report ourselves.
    for name in ("aiokafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
