"""The tools that sites registered: their versions, their secrets, and whose they are."""

import pytest

from infra.context import CatalogueContext
from infra.secrets import Sealed, Sealer
from infra.tools.offered import FRESH_S, OfferedTools
from infra.tools.store import SiteToolStore, context_of
from processors.tools.registry import BUILTIN, Registry
from projections.db import Pool
from schemas.errors import ConfigurationError, NotFoundError, UnavailableError
from schemas.ids import SiteId, random_id
from tests.infra.tools.samples import SEALER, SECRET, http, sealer, tool


def new_site() -> SiteId:
    return SiteId(random_id())


async def test_a_new_version_leaves_the_older_one_to_runs_that_began_with_it(store: SiteToolStore) -> None:
    site = new_site()
    assert await store.add(site, tool(), SECRET, sealer, "ada") == (1, True)
    assert await store.add(site, tool(), None, sealer, "ada") == (1, False)
    assert await store.add(site, tool(description="Another."), None, sealer, "ada") == (2, True)
    (definition,) = await store.definitions(site)
    assert (definition.version, definition.description) == ("2", "Another.")
    old = await store.find(site, "order_cancel", "1")
    assert old is not None
    assert old.tool == tool()
    assert old.secret(sealer) == SECRET
    new = await store.get(site, "order_cancel")
    assert new.secret(sealer) == SECRET


async def test_a_removed_tool_is_gone_for_everyone_and_its_versions_go_on(store: SiteToolStore) -> None:
    site = new_site()
    await store.add(site, tool(), SECRET, sealer, "ada")
    await store.remove(site, "order_cancel", "ada")
    assert await store.definitions(site) == ()
    assert await store.find(site, "order_cancel", "1") is None
    with pytest.raises(NotFoundError):
        await store.get(site, "order_cancel")
    with pytest.raises(NotFoundError):
        await store.remove(site, "order_cancel", "ada")
    with pytest.raises(ConfigurationError, match="--secret-from"):
        await store.add(site, tool(), None, sealer, "ada")
    assert await store.add(site, tool(), SECRET, sealer, "ada") == (2, True)


async def test_a_tool_that_is_no_longer_taken_is_left_out_and_the_others_stay(
    store: SiteToolStore, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site()
    await store.add(site, tool(), SECRET, sealer, "ada")
    await store.add(site, tool(name="order_find"), SECRET, sealer, "ada")
    said = """UPDATE tools.http_tools SET told = jsonb_set(told, '{parameters}', '{"type": 7}')
              WHERE site_id = $1 AND name = 'order_cancel'"""
    await pool.execute(said, site)
    assert [definition.name for definition in await store.definitions(site)] == ["order_find"]
    assert "the tool 'order_cancel' of site" in caplog.text


async def test_a_site_has_nothing_of_another_ones(store: SiteToolStore) -> None:
    site, other = new_site(), new_site()
    await store.add(site, tool(), SECRET, sealer, "ada")
    assert await store.definitions(other) == ()
    assert await store.find(other, "order_cancel", "1") is None
    with pytest.raises(NotFoundError):
        await store.remove(other, "order_cancel", "eve")


async def test_a_secret_is_sealed_for_its_tool_and_is_resealed(store: SiteToolStore, pool: Pool) -> None:
    site = new_site()
    older = Sealer(SEALER.keys, "k1")
    await store.add(site, tool(), SECRET, lambda: older, "ada")
    row = await pool.fetchrow("SELECT * FROM tools.http_tools WHERE site_id = $1", site)
    assert row is not None
    assert SECRET not in row["ciphertext"]
    assert SECRET.decode() not in str(row)
    sealed = Sealed(row["key_id"], row["nonce"], row["ciphertext"])
    with pytest.raises(ConfigurationError):
        SEALER.open(sealed, context_of(new_site(), "order_cancel"))
    assert await store.reseal(SEALER) >= 1
    assert await store.reseal(SEALER) == 0
    found = await store.get(site, "order_cancel")
    assert found.sealed is not None
    assert (found.sealed.key_id, found.secret(sealer)) == ("k2", SECRET)


async def test_a_secret_is_not_carried_to_another_host(store: SiteToolStore) -> None:
    site = new_site()
    await store.add(site, tool(), SECRET, sealer, "ada")
    elsewhere = tool(http=http(url="https://api.example.org/{order_id}"))
    with pytest.raises(ConfigurationError, match="another host"):
        await store.add(site, elsewhere, None, sealer, "eve")
    with pytest.raises(ConfigurationError, match="where should the secret go"):
        await store.add(site, tool(http=http(headers={})), SECRET, sealer, "ada")


async def test_what_a_site_registered_is_looked_up_once_a_moment_and_takes_no_built_in_name() -> None:
    now, looks = [0.0], [0]
    mine = tool(name="shop_look").definition(1)
    shadow = mine.model_copy(update={"name": "crm_get_contact"})

    async def look(site_id: SiteId) -> tuple[object, ...]:
        looks[0] += 1
        if looks[0] == 3:
            raise UnavailableError("not now")
        return (mine, shadow)

    offered = OfferedTools([look], now_s=lambda: now[0])  # type: ignore[list-item]
    site = new_site()
    for _ in range(3):
        assert await offered.tools(site) == (mine, shadow)
    assert looks == [1]
    now[0] += FRESH_S
    await offered.tools(site)
    now[0] += FRESH_S
    with pytest.raises(UnavailableError):
        await offered.tools(site)
    assert await offered.tools(site) == (mine, shadow)  # a failure is not kept
    visible = Registry(BUILTIN).visible(("*",), (), {"crm"}, await offered.tools(site))
    assert [each.description for each in visible if each.name == "crm_get_contact"] != [shadow.description]
    assert "shop_look" in {each.name for each in visible}
    assert CatalogueContext(Registry(BUILTIN), {"crm"}, own=offered) is not None
