import json

import pytest

from schemas.exact import dump_exact, load_exact

BIG = 123_456_789_012_345_678_901


@pytest.mark.parametrize("number", [BIG, -BIG, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**18, 0, 1.5])
def test_a_number_is_read_and_written_as_it_is(number: float) -> None:
    raw = json.dumps({"n": [number, "x"]}).encode()
    assert load_exact(raw) == {"n": [number, "x"]}
    assert load_exact(raw.decode()) == {"n": [number, "x"]}
    assert json.loads(dump_exact({"n": [number, "x"]})) == {"n": [number, "x"]}


@pytest.mark.parametrize(
    "raw", ["NaN", '"\\ud800"', "1e400", "[1e400, 1234567890123456789012]", "9" * 5_000, "[" * 5_000, "{", "\ud800"]
)
def test_what_is_no_json_is_said_so(raw: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each reader says it in its own words
        load_exact(raw)


def test_what_json_has_no_word_for_is_written_all_the_same() -> None:
    odd = {"half \ud83d": float("nan"), "n": BIG, "yes": True, "all": ("ü\udfff", object)}
    assert json.loads(dump_exact(odd)) == {"half \ufffd": None, "n": BIG, "yes": True, "all": ["ü\ufffd", str(object)]}
