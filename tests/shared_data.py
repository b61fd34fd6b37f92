"""Real data that nobody here wrote, beside the project in `shared/data`; it is read in place and never copied."""

from pathlib import Path

import pytest

_ABOVE = Path(__file__).resolve().parents[2:]
DATA = next((p / "shared" / "data" for p in _ABOVE if (p / "shared" / "data").is_dir()), Path("../shared/data"))


def needs(name: str) -> pytest.MarkDecorator:
    """Return the mark of a test that reads the file `name`: it is skipped where that is missing, and says so."""
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"shared/data/{name} is not on this machine")
