"""Sealed secrets as rows of Postgres hold them: in the columns `key_id`, `nonce` and `ciphertext`."""

from collections.abc import Callable, Sequence

import asyncpg

from infra.secrets import Sealed, Sealer
from projections.db import Pool


def sealed_of(row: asyncpg.Record) -> Sealed | None:
    """Return the secret of a row; None where it has none."""
    return None if row["key_id"] is None else Sealed(row["key_id"], row["nonce"], row["ciphertext"])


def columns_of(sealed: Sealed | None) -> tuple[str | None, bytes | None, bytes | None]:
    """Return the three columns of a secret, or of none."""
    return (None, None, None) if sealed is None else (sealed.key_id, sealed.nonce, sealed.ciphertext)


async def reseal_rows(
    pool: Pool,
    sealer: Sealer,
    select: str,
    update: str,
    key: Sequence[str],
    context_of: Callable[[asyncpg.Record], tuple[str, ...]],
) -> int:
    """Seal the secrets that `select` finds with the newest master key; return how many were sealed with another.

    `update` takes the row's `key` columns and then the three of the secret.

    Raises:
        ConfigurationError: one does not open; nothing was changed.
    """
    done = 0
    async with pool.acquire() as db, db.transaction():
        for row in await db.fetch(select):
            if (old := sealed_of(row)) is None:
                continue
            new = sealer.reseal(old, context_of(row))
            if new is not old:
                await db.execute(update, *(row[name] for name in key), *columns_of(new))
                done += 1
    return done
