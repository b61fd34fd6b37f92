"""Secrets that a person gives to a command: never as an argument, which others on the machine can read."""

from typing import Annotated

import typer

from infra.cli.common import err, read_input
from schemas.errors import ConfigurationError

SECRET_BYTES = 8 * 1024

SecretFrom = Annotated[
    str | None,
    typer.Option("--secret-from", metavar="FILE", help="The secret that a header needs; - for standard input."),
]


def read_secret(source: str) -> bytes:
    """Return a secret from a file or standard input, without the line's end.

    Raises:
        ConfigurationError: it can't be read, or no header can hold it.
    """
    secret = read_input(source).strip()
    if not secret or len(secret) > SECRET_BYTES or not (secret.isascii() and secret.decode("ascii").isprintable()):
        raise ConfigurationError(f"a secret is one line of plain ASCII text, at most {SECRET_BYTES} bytes")
    if len(secret) < 8:
        err().print("note: so short a secret is easily guessed", style="yellow")
    return secret
