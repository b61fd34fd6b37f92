"""Sites' own providers: whose key is used, where it may go, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from pydantic import HttpUrl, SecretStr

from infra.models.addresses import ProviderAddress
from infra.models.endpoints import KNOWN, check_endpoint
from infra.models.opening import open_models
from infra.models.providers import ProviderConfig
from infra.models.sites import KNOWN_FOR_S, SiteModels
from infra.models.store import ProviderStore, SiteProvider
from infra.secrets import Sealer
from processors.models.port import ModelRequest
from projections.db import Pool
from schemas.chat import ChatMessage
from schemas.errors import ConfigurationError, ModelError, NotFoundError, UnavailableError
from schemas.ids import AgentId, ExecutionId, SiteId
from tests.databases import own_pool
from tests.fake_provider import FakeProvider
from tests.processors.samples import OTHER_SITE, SITE

SEALER = Sealer({"k1": bytes(32)}, "k1")
OURS, THEIRS, PLATFORM = "sk-ours-0123456789", "sk-theirs-0123456789", "sk-platform-0123456789"


def provider(fake: FakeProvider, site: SiteId = SITE, **changes: object) -> SiteProvider:
    made = SiteProvider(site, "house", "openai", f"{fake.address}/v1", True, None, None, None, "ann", None)
    return replace(made, **changes)  # type: ignore[arg-type]


def question(site: SiteId = SITE) -> ModelRequest:
    words = (ChatMessage(role="user", content="hello"),)
    return ModelRequest(site, AgentId("a"), ExecutionId("e"), 1, "house", "m", words)


class Table:
    """Providers in memory; `fails` is raised while it is set."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], SiteProvider] = {}
        self.fails: Exception | None = None
        self.looks = 0

    def put(self, given: SiteProvider, key: str) -> None:
        self.found[given.site_id, given.name] = replace(given, sealed=SEALER.seal(key.encode(), given.context))

    async def find(self, site_id: SiteId, name: str) -> SiteProvider | None:
        self.looks += 1
        if self.fails is not None:
            raise self.fails
        return self.found.get((site_id, name))


class House:
    """Sites' models over a fake provider, with a clock that can be moved."""

    def __init__(self, fake: FakeProvider, models: SiteModels, table: Table, clock: list[float]) -> None:
        self.fake, self.models, self.table, self.clock = fake, models, table, clock

    async def asked_with(self, site: SiteId = SITE) -> str:
        await self.models.complete(question(site))
        return self.fake.served[-1].key


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    async with FakeProvider().running() as fake:
        given = ProviderAddress(api="openai", key=SecretStr(PLATFORM), url=HttpUrl(f"{fake.address}/v1"))
        async with open_models({"house": given}, []) as platform:
            table, clock = Table(), [0.0]
            models = SiteModels(
                platform, {"house": given}, table, lambda: SEALER, (fake.address,), now_s=lambda: clock[0]
            )
            yield House(fake, models, table, clock)
            await models.aclose()


async def test_each_site_is_served_with_its_own_key_and_the_others_with_the_platforms(house: House) -> None:
    house.table.put(provider(house.fake), OURS)
    house.table.put(provider(house.fake, OTHER_SITE), THEIRS)
    assert await house.asked_with(SITE) == OURS
    assert await house.asked_with(OTHER_SITE) == THEIRS
    assert await house.asked_with(SiteId("7c9e6679-7425-40de-944b-e07fc1f90a00")) == PLATFORM


async def test_a_new_key_is_used_after_some_seconds_and_a_removed_one_is_forgotten(house: House) -> None:
    house.table.put(provider(house.fake), OURS)
    assert await house.asked_with() == OURS
    house.table.put(provider(house.fake), THEIRS)
    assert await house.asked_with() == OURS
    house.clock[0] += KNOWN_FOR_S
    assert await house.asked_with() == THEIRS
    house.table.found.clear()
    house.clock[0] += KNOWN_FOR_S
    assert await house.asked_with() == PLATFORM
    assert house.table.looks == 3


async def test_a_key_moved_to_another_site_or_address_does_not_open(house: House) -> None:
    house.table.put(provider(house.fake), OURS)
    stolen = house.table.found[SITE, "house"]
    for moved in (replace(stolen, site_id=OTHER_SITE), replace(stolen, url=f"{house.fake.address}/v1/x")):
        house.table.found = {(OTHER_SITE, "house"): moved}
        with pytest.raises(ModelError, match="set it again") as caught:
            await house.models.complete(question(OTHER_SITE))
        assert caught.value.reason == "auth"
        house.clock[0] += KNOWN_FOR_S
    assert house.fake.served == []


async def test_an_address_that_is_allowed_no_more_is_not_asked(house: House) -> None:
    house.table.put(provider(house.fake, url="http://127.0.0.1:9/v1"), OURS)
    with pytest.raises(ModelError, match="set it again"):
        await house.models.complete(question())


async def test_while_postgres_is_away_what_was_known_serves_on_and_nothing_else(house: House) -> None:
    house.table.put(provider(house.fake), OURS)
    assert await house.asked_with() == OURS
    house.table.fails = UnavailableError("gone")
    house.clock[0] += KNOWN_FOR_S
    assert await house.asked_with() == OURS
    with pytest.raises(ModelError) as caught:
        await house.models.complete(question(OTHER_SITE))  # not the platform's key for who may have one of their own
    assert (caught.value.reason, caught.value.retryable) == ("unavailable", True)


async def test_a_provider_that_is_replaced_while_it_is_asked_still_answers(house: House) -> None:
    house.table.put(provider(house.fake), OURS)
    asked = asyncio.create_task(house.models.complete(question()))
    await asyncio.sleep(0)
    house.clock[0] += KNOWN_FOR_S
    house.table.put(provider(house.fake), THEIRS)
    await house.models.complete(question())
    assert (await asked).text == "Done."


async def test_questions_of_a_site_keep_to_its_pace(house: House) -> None:
    house.table.put(provider(house.fake, requests_per_minute=2), OURS)
    await house.asked_with()
    await house.asked_with()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(house.models.complete(question()), 0.05)
    assert await house.asked_with(OTHER_SITE) == PLATFORM


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        None,
        "https://api.openai.com/v1",
        "https://api.openai.com",
        "https://api.openai.com:443/v1",
        "https://llm.example.com/team-a/v1",
        "http://127.0.0.1:8080/v1",
    ],
)
def test_allowed_addresses(url: str | None) -> None:
    check_endpoint(url, (*KNOWN, "https://llm.example.com/team-a/", "http://127.0.0.1:8080"))


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com.evil.example.com/v1",
        "https://api.openai.com@evil.example.com/v1",
        "https://api.openai.com:8443/v1",
        "https://user:pass@api.openai.com/v1",
        "https://api.openai.com/v1?to=evil",
        "https://llm.example.com/team-b/v1",
        "https://llm.example.com/team-ab",
        "https://llm.example.com/team-a/../team-b",
        "https://llm.example.com/team-a/%2e%2e/team-b",
        "http://127.0.0.1:8081/v1",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "api.openai.com",
        "",
    ],
)
def test_refused_addresses(url: str) -> None:
    with pytest.raises(ConfigurationError):
        check_endpoint(url, (*KNOWN, "https://llm.example.com/team-a/", "http://127.0.0.1:8080"))


# --- Postgres -------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with own_pool(postgres_url, "providers") as opened:
        await asyncio.gather(*(ProviderStore(opened).open() for _ in range(4)))
        yield opened


async def test_a_provider_is_kept_with_its_key_sealed_for_its_own_site(pool: Pool) -> None:
    store, known = ProviderStore(pool), FakeProvider(address="https://api.openai.com")
    await store.set(SEALER, provider(known), OURS, KNOWN)
    await store.set(SEALER, provider(known, OTHER_SITE), THEIRS, KNOWN)
    found = await store.find(SITE, "house")
    assert found is not None
    assert found.sealed is not None
    assert SEALER.open(found.sealed, found.context) == OURS.encode()
    assert [each.name for each in await store.list(SITE)] == ["house"]
    assert await store.find(SITE, "other") is None
    newer = Sealer({"k2": bytes([1]) * 32, **SEALER.keys}, "k2")
    assert (await store.reseal(newer), await store.reseal(newer)) == (2, 0)
    again = await store.find(SITE, "house")
    assert again is not None
    assert again.sealed is not None
    assert (again.sealed.key_id, newer.open(again.sealed, again.context)) == ("k2", OURS.encode())
    await store.remove(SITE, "house")
    assert await store.find(SITE, "house") is None
    assert await store.find(OTHER_SITE, "house") is not None
    with pytest.raises(NotFoundError):
        await store.remove(SITE, "house")


async def test_a_provider_elsewhere_is_not_kept(pool: Pool) -> None:
    with pytest.raises(ConfigurationError, match="DRAMAC_PROVIDER_ENDPOINTS"):
        await ProviderStore(pool).set(SEALER, provider(FakeProvider(address="https://evil.example.com")), OURS, KNOWN)


def test_nothing_that_holds_a_key_shows_it() -> None:
    fake = FakeProvider(address="https://api.openai.com")
    sealed = replace(provider(fake), sealed=SEALER.seal(OURS.encode(), ("x",)))
    config = ProviderConfig("house", "openai", OURS, None)
    address = ProviderAddress(api="openai", key=SecretStr(OURS))
    told = "".join(map(repr, (sealed, config, address, SEALER))) + "".join(map(str, (sealed, config, address, SEALER)))
    assert OURS not in told
    assert "\\x00" not in told
