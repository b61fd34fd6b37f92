"""Secrets at rest: sealed to what they belong to, with keys that can change."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from infra.secrets import KEYS_FILE, Sealer, parse_keys, sealer_of
from infra.settings import Settings
from schemas.errors import ConfigurationError

OLD, NEW = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
CONTEXT = ("hook", "site", "id")


@pytest.fixture
def sealer() -> Sealer:
    return parse_keys(f"new:{NEW},old:{OLD}")


@given(plain=st.binary(max_size=200), context=st.lists(st.text(st.characters(codec="utf-8")), max_size=4))
def test_what_is_sealed_opens_again(plain: bytes, context: list[str]) -> None:
    sealer = parse_keys(f"k:{NEW}")
    sealed = sealer.seal(plain, context)
    assert sealer.open(sealed, context) == plain
    assert len(plain) < 8 or plain not in sealed.ciphertext
    assert sealer.seal(plain, context) != sealed  # a nonce of its own


@pytest.mark.parametrize(
    "context", [(), ("hook", "site"), ("hook", "other", "id"), ("hooksite", "id"), ("hook", "siteid", "")]
)
def test_a_secret_that_was_moved_does_not_open(sealer: Sealer, context: tuple[str, ...]) -> None:
    sealed = sealer.seal(b"secret", CONTEXT)
    with pytest.raises(ConfigurationError, match="does not open"):
        sealer.open(sealed, context)


@given(at=st.integers(0, 1_000), bit=st.integers(0, 7), part=st.sampled_from(["nonce", "ciphertext"]))
def test_a_secret_that_was_changed_does_not_open(at: int, bit: int, part: str) -> None:
    sealer = parse_keys(f"k:{NEW}")
    sealed = sealer.seal(b"secret", CONTEXT)
    changed = bytearray(getattr(sealed, part))
    changed[at % len(changed)] ^= 1 << bit
    for content in (bytes(changed), b""):
        wrong = replace(sealed, nonce=content) if part == "nonce" else replace(sealed, ciphertext=content)
        with pytest.raises(ConfigurationError, match="does not open"):
            sealer.open(wrong, CONTEXT)


def test_keys_change_by_resealing(sealer: Sealer) -> None:
    before = parse_keys(f"old:{OLD}").seal(b"secret", CONTEXT)
    after = sealer.reseal(before, CONTEXT)
    assert (before.key_id, after.key_id) == ("old", "new")
    alone = parse_keys(f"new:{NEW}")
    assert alone.open(after, CONTEXT) == b"secret"
    assert alone.reseal(after, CONTEXT) is after
    with pytest.raises(ConfigurationError, match="'old', and only new are known: put it back"):
        alone.open(before, CONTEXT)
    # The id is sealed in too: what one key sealed is not taken for another's of the same bytes.
    with pytest.raises(ConfigurationError, match="does not open"):
        parse_keys(f"other:{OLD}").open(replace(before, key_id="other"), CONTEXT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" , ", "is empty"),
        (NEW, "key 1 has no id"),
        (f"k:{NEW},{OLD}", "key 2 has no id"),
        (f"a b:{NEW}", "key 1 has no id"),
        (f"k:{NEW},k:{OLD}", "stands twice"),
        ("k:not*base64", "is not base64"),
        ("k:c2hvcnQ=", "has 5 bytes, not 32"),
    ],
)
def test_keys_written_wrongly_are_refused_without_being_shown(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as told:
        parse_keys(text)
    assert NEW[:8] not in str(told.value)
    assert NEW[:8] not in repr(parse_keys(f"k:{NEW}"))


def test_the_embedded_stack_makes_one_key_which_only_its_owner_reads(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(sealer_of, [settings] * 8))
    assert all(one == made[0] for one in made)
    path = settings.data_dir / KEYS_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [child.name for child in path.parent.iterdir()] == [KEYS_FILE]
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        sealer_of(settings)


def test_a_postgres_of_ones_own_needs_keys_of_ones_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, postgres=SecretStr("postgresql://x"))
    with pytest.raises(ConfigurationError, match="write DRAMAC_SECRET_KEYS as"):
        sealer_of(settings)
    assert not list(tmp_path.iterdir())
    keys = SecretStr(f"k:{NEW}")
    assert sealer_of(Settings(postgres=SecretStr("postgresql://x"), secret_keys=keys)).newest == "k"
    assert NEW not in repr(Settings(secret_keys=keys))
