"""What the API means for other commands: none waits for its libraries, and `dev` does without its port."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.cli import dev
from infra.http.server import listen
from infra.settings import Settings
from infra.wiring import House

ROOT = Path(__file__).parents[2]


def test_a_command_that_serves_nothing_imports_no_server() -> None:
    script = "import infra.cli.main, sys; print([n for n in ('fastapi', 'uvicorn') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def no_house() -> House:
    """A house that nobody may enter: what is tested ends before."""
    return object.__new__(House)


async def test_dev_goes_on_where_its_port_is_taken_and_says_so(tmp_path: Path, no_house: House) -> None:
    with listen("127.0.0.1", 0) as taken:
        settings = Settings(data_dir=tmp_path, api_port=taken.getsockname()[1])
        async with dev._api(settings, no_house) as told:
            assert told.startswith("none: the API can't listen at 127.0.0.1:")
            assert told.endswith("set DRAMAC_API_HOST or DRAMAC_API_PORT")
            assert "\n" not in told


async def test_an_error_of_what_runs_meanwhile_is_not_taken_for_the_apis(tmp_path: Path, no_house: House) -> None:
    with listen("127.0.0.1", 0) as taken:
        settings = Settings(data_dir=tmp_path, api_port=taken.getsockname()[1])
        with pytest.raises(ZeroDivisionError):
            async with dev._api(settings, no_house):
                _ = 1 // 0
    settings = Settings(data_dir=tmp_path, api_port=0, postgres=SecretStr("x"), secret_keys=SecretStr("wrong"))
    no_house.log = no_house.pool = None  # type: ignore[assignment]
    async with dev._api(settings, no_house) as told:
        assert told.startswith("none: DRAMAC_SECRET_KEYS is wrong")
