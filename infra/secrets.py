"""Secrets at rest: sealed with a master key of ours, so that a copy of the database gives none of them away.

AES-256-GCM. What a secret belongs to (its context) is authenticated with it: a row moved to another site, or to
another hook, no longer opens. Each sealed secret names its master key, so keys can be changed: the first of
DRAMAC_SECRET_KEYS seals, all of them open, and what an older one sealed is resealed before that key is taken away.
"""

import os
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.settings import Settings
from schemas.errors import ConfigurationError

KEYS_FILE = "secret.keys"  # of the embedded stack, in its data directory
KEY_BYTES = 32  # AES-256
NONCE_BYTES = 12  # random: safe for some billions of secrets a key

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HOW = 'write DRAMAC_SECRET_KEYS as id:base64 of 32 bytes, such as "k1:$(openssl rand -base64 32)"'


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it may be stored. `key_id` names the master key that opens it."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals and opens secrets. `keys` are the master keys by id; the one of `newest` seals."""

    keys: dict[str, bytes] = field(repr=False)
    newest: str

    def seal(self, plain: bytes, context: Sequence[str]) -> Sealed:
        """Return `plain` sealed; only who names the same `context` (what it is, whose it is) opens it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = AESGCM(self.keys[self.newest]).encrypt(nonce, plain, _bound(self.newest, context))
        return Sealed(self.newest, nonce, ciphertext)

    def open(self, sealed: Sealed, context: Sequence[str]) -> bytes:
        """Return what was sealed.

        Raises:
            ConfigurationError: its master key is not among ours, or it was changed, or belongs to something else.
        """
        key = self.keys.get(sealed.key_id)
        if key is None:
            known = ", ".join(self.keys)
            told = f"a secret is sealed with the master key {sealed.key_id!r}, and only {known} are known"
            raise ConfigurationError(f"{told}: put it back into DRAMAC_SECRET_KEYS")
        try:
            return AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext, _bound(sealed.key_id, context))
        except (InvalidTag, ValueError):  # ValueError: a nonce of another length
            told = f"a secret of {' '.join(context)} does not open with the master key {sealed.key_id!r}"
            raise ConfigurationError(f"{told}: it was changed, or that key was replaced by another") from None

    def reseal(self, sealed: Sealed, context: Sequence[str]) -> Sealed:
        """Return the secret sealed with the newest key; the same object if it is already.

        Raises:
            ConfigurationError: see `open`.
        """
        return sealed if sealed.key_id == self.newest else self.seal(self.open(sealed, context), context)


def _bound(key_id: str, context: Sequence[str]) -> bytes:
    """Return what is authenticated with a secret: each part with its length, so that no two contexts read alike."""
    parts = [part.encode() for part in (key_id, *context)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def parse_keys(text: str) -> Sealer:
    """Return the sealer of `id:base64,id2:base64`.

    Raises:
        ConfigurationError: it is written differently; the message shows none of it.
    """
    keys: dict[str, bytes] = {}
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        key_id, colon, encoded = part.partition(":")
        if not colon or _KEY_ID.fullmatch(key_id) is None:
            raise ConfigurationError(f"DRAMAC_SECRET_KEYS is wrong: key {number} has no id; {_HOW}")
        if key_id in keys:
            raise ConfigurationError(f"DRAMAC_SECRET_KEYS is wrong: the id {key_id!r} stands twice")
        try:
            keys[key_id] = b64decode(encoded, validate=True)
        except (Base64Error, ValueError):
            raise ConfigurationError(f"DRAMAC_SECRET_KEYS is wrong: key {key_id!r} is not base64; {_HOW}") from None
        if len(keys[key_id]) != KEY_BYTES:
            told = f"key {key_id!r} has {len(keys[key_id])} bytes, not {KEY_BYTES}"
            raise ConfigurationError(f"DRAMAC_SECRET_KEYS is wrong: {told}; {_HOW}")
    if not keys:
        raise ConfigurationError(f"DRAMAC_SECRET_KEYS is empty: {_HOW}")
    return Sealer(keys, next(iter(keys)))


def sealer_of(settings: Settings) -> Sealer:
    """Return the sealer of DRAMAC_SECRET_KEYS; of the embedded stack's own key, made when first needed, where unset.

    Raises:
        ConfigurationError: a Postgres of one's own needs keys of one's own; or the file is not safe or can't be read.
    """
    if settings.secret_keys is not None:
        return parse_keys(settings.secret_keys.get_secret_value())
    if settings.postgres is not None:
        raise ConfigurationError(f"secrets in a Postgres of your own are sealed with keys of your own: {_HOW}")
    path = settings.data_dir / KEYS_FILE
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} can be read by others: chmod 600 it")
        return parse_keys(path.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} can't be used: {getattr(error, 'strerror', None) or error}") from None


def _make(path: Path) -> None:
    """Write a file with a fresh key, for its owner alone; of several that try at once, one succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"embedded-1:{b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
