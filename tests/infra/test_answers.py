"""What others answer over HTTP, carelessly written: read all the same, and cleaned as documented."""

import pytest

from infra.modules.answers import Answer, json_of, read, words_of
from processors.tools.cleaning import TOO_DEEP, clean_output
from processors.tools.port import BusyError, ToolError
from schemas.message import Json

DIGITS = "123456789012345678901234567890"


def result_of(body: bytes) -> Json:
    answer = Answer(200, None, "application/json", body, cut=False)
    return clean_output(read(answer, "The module crm", secret=None, now_s=0)).output


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"a": NaN, "b": -Infinity, "c": 1e999}', {"a": None, "b": None, "c": None}),
        (b'{"half": "\\ud83d", "\\udc00": 1}', {"half": "\ufffd", "\ufffd": 1}),
        (b'{"bytes": "a\xffb"}', {"bytes": "a\ufffdb"}),
        (b'{"nul": "\\u0000"}', {"nul": "\ufffd"}),
        (b'\xef\xbb\xbf{"marked": 1}', {"marked": 1}),
        (b'"\x01\x1f"', "\x01\x1f"),
        (f'{{"id": {DIGITS}, "less": -{DIGITS}}}'.encode(), {"id": DIGITS, "less": f"-{DIGITS}"}),
        (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)]),
        (b"[18446744073709551616]", ["18446744073709551616"]),
        (b"9" * 5_000, "9" * 5_000),
        (b"0.12345678901234567890", 0.12345678901234568),
        (f'{{"text": "{DIGITS}", "and": 1.5}}'.encode(), {"text": DIGITS, "and": 1.5}),
    ],
)
def test_what_is_not_quite_json_comes_back_cleaned_and_exact(body: bytes, kept: Json) -> None:
    assert result_of(body) == kept


def test_what_is_nested_deeply_is_cut_and_what_is_nested_without_end_is_told() -> None:
    nested = result_of(b"[" * 500 + b"]" * 500)
    while isinstance(nested, list):
        nested = nested[0]
    assert nested == TOO_DEEP
    with pytest.raises(ToolError, match="nested too deeply"):
        result_of(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize("body", [b"[1, 2", b"<html>", b'{"a": 1} extra', b"'a'"])
def test_what_is_cut_off_or_something_else_may_have_acted(body: bytes) -> None:
    with pytest.raises(BusyError, match="not JSON"):
        result_of(body)


def test_words_are_found_in_an_error_that_is_carelessly_written() -> None:
    assert words_of(b'{"error": "no such \\ud83d thing", "score": NaN}') == "no such \ufffd thing"
    assert words_of(b"[" * 100_000) == ""


def test_a_name_that_stands_twice_has_its_last_value_in_both_readers() -> None:
    assert json_of(b'{"a": 1, "a": 2}') == json_of(b'{"a": NaN, "a": 2}') == {"a": 2}


@pytest.mark.parametrize("form", [b'pa/ss"wo\\rd', b'pa/ss\\"wo\\\\rd', b'pa\\/ss\\"wo\\\\rd'])
def test_a_secret_is_taken_out_however_it_is_told(form: bytes) -> None:
    answer = Answer(200, None, "text/plain", b"you sent " + form, cut=False)
    told = read(answer, "The tool x", secret=b'pa/ss"wo\\rd', now_s=0, texts=True)
    assert str(told) == "you sent [secret]"
