"""Hooks in Postgres: their secrets, their sites, and what is forgotten."""

from datetime import timedelta

import pytest

from infra.hooks.signatures import new_secret
from infra.hooks.store import DELIVERIES_KEPT, VALID_SECRETS
from infra.secrets import Sealed, Sealer
from projections.db import Pool
from schemas.errors import ConfigurationError, NotFoundError, RefusedError
from schemas.ids import SiteId, random_id
from tests.infra.hooks.places import BODY, SEALER, Place, problem


async def test_no_secret_is_stored_as_it_is(place: Place, pool: Pool) -> None:
    hook = await place.hook()
    secret = place.secrets[hook.id]
    (row,) = await pool.fetch("SELECT * FROM hooks.secrets WHERE hook_id = $1", hook.id)
    assert secret.encode() not in row["ciphertext"]
    assert secret not in str(row)
    sealed = Sealed(row["key_id"], row["nonce"], row["ciphertext"])
    assert SEALER.open(sealed, ("hook", hook.site_id, hook.id)).decode() == secret
    with pytest.raises(ConfigurationError):
        SEALER.open(sealed, ("hook", random_id(), hook.id))


async def test_a_secret_moved_to_another_hook_does_not_sign_for_it(place: Place, pool: Pool) -> None:
    hook, other = await place.hook(), await place.hook()
    await pool.execute("DELETE FROM hooks.secrets WHERE hook_id = $1", other.id)
    await pool.execute("UPDATE hooks.secrets SET hook_id = $2 WHERE hook_id = $1", hook.id, other.id)
    place.secrets[other.id] = place.secrets[hook.id]
    problem(await place.deliver(other), 500, "internal")
    problem(await place.deliver(hook), 401, "bad-signature")  # it has none at all
    assert place.asked() == []


async def test_after_a_rotation_both_secrets_are_good_until_the_old_one_expires(place: Place, pool: Pool) -> None:
    hook = await place.hook()
    old, new = place.secrets[hook.id], new_secret("standard")
    await place.store.rotate(SEALER, hook, new, timedelta(hours=1))
    assert await place.store.secrets(SEALER, hook) == (new, old)
    for number, secret in enumerate((old, new)):
        place.secrets[hook.id] = secret
        assert (await place.deliver(hook, BODY, f"m{number}")).status_code == 202
    with pytest.raises(RefusedError, match="this very secret"):
        await place.store.rotate(SEALER, hook, old, timedelta(hours=9))
    newest = new_secret("standard")
    await place.store.rotate(SEALER, hook, newest, timedelta(0))
    assert await place.store.secrets(SEALER, hook) == (newest,)
    problem(await place.deliver(hook, BODY, "m3"), 401, "bad-signature")
    for _ in range(VALID_SECRETS - 1):
        await place.store.rotate(SEALER, hook, new_secret("standard"), timedelta(hours=1))
    with pytest.raises(RefusedError, match="--grace 0"):
        await place.store.rotate(SEALER, hook, new_secret("standard"), timedelta(hours=1))
    await place.store.purge()
    assert await pool.fetchval("SELECT count(*) FROM hooks.secrets WHERE hook_id = $1", hook.id) == VALID_SECRETS


async def test_a_master_key_is_changed_by_resealing(place: Place, pool: Pool) -> None:
    old_only = Sealer({"k1": SEALER.keys["k1"]}, "k1")
    hook = await place.hook(sealer=old_only)
    assert (await place.deliver(hook)).status_code == 202
    assert await place.store.reseal(SEALER) == 1
    assert await place.store.reseal(SEALER) == 0
    new_only = Sealer({"k2": SEALER.keys["k2"]}, "k2")
    assert await place.store.secrets(new_only, hook) == (place.secrets[hook.id],)
    with pytest.raises(ConfigurationError, match="'k2'"):
        await place.store.secrets(old_only, hook)


async def test_a_site_sees_its_own_hooks_alone(place: Place) -> None:
    hook = await place.hook()
    other_site = SiteId(random_id())
    assert await place.store.list(other_site) == ()
    for ref in (hook.id, hook.id[:8]):
        assert await place.store.get(place.site_id, ref) == hook
        with pytest.raises(NotFoundError):
            await place.store.get(other_site, ref)
    for ref in ("", "%", "zz", "'", "-" * 40):
        with pytest.raises(NotFoundError):
            await place.store.get(place.site_id, ref)


async def test_old_deliveries_are_forgotten_and_young_ones_are_not(place: Place, pool: Pool) -> None:
    hook = await place.hook()
    for number in range(2):
        await place.deliver(hook, BODY, f"m{number}")
    await pool.execute(
        """
        UPDATE hooks.deliveries SET received_at = received_at - $2::interval
        WHERE hook_id = $1 AND delivery_id = 'm0'
        """,
        hook.id,
        DELIVERIES_KEPT,
    )
    await place.store.purge()
    rows = await pool.fetch("SELECT delivery_id FROM hooks.deliveries WHERE hook_id = $1", hook.id)
    assert [row["delivery_id"] for row in rows] == ["m1"]
