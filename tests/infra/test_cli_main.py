"""What `dramac --help` shows, without loading what it tells of."""

import subprocess
import sys

import pytest

from infra.cli.main import COMMANDS, load
from tests.infra.cli_runs import dramac


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_what_help_says_of_it(name: str) -> None:
    command = load(name)
    told = " ".join((command.help or "").split())
    assert command.name == name
    assert told.startswith(COMMANDS[name].help)


def test_help_names_every_command_in_order() -> None:
    shown = dramac({}, "--help").out
    first_words = [line.strip("│ ").partition(" ")[0] for line in shown.splitlines()]
    assert [word for word in first_words if word in COMMANDS] == list(COMMANDS)


def test_a_command_that_there_is_not_is_told_with_the_one_that_may_be_meant() -> None:
    assert "'replay'" in dramac({}, "replya").err


def test_help_loads_no_client_of_any_server() -> None:
    clients = ("aiokafka", "asyncpg", "httpx2", "pydantic")
    script = f"import sys, infra.cli.main; print([n for n in {clients} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
