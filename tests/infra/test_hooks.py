"""Deliveries of webhooks, over HTTP as senders make them: what is taken, what is refused, and what is asked for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio

from infra.hooks import intake as intake_module
from infra.hooks.intake import Conditions, Intake
from infra.hooks.signatures import Scheme, key_of, new_secret, signed_headers
from infra.hooks.store import DELIVERIES_KEPT, VALID_SECRETS, Hook, HookStore
from infra.http.app import create_app
from infra.http.hooks import hooks_router
from infra.secrets import Sealed, Sealer, parse_keys
from projections.db import Pool
from schemas.agents import AgentConfig
from schemas.commands import StartExecution
from schemas.envelope import CommandEnvelope
from schemas.errors import AppendError, ConfigurationError, NotFoundError, RefusedError
from schemas.ids import AgentId, SiteId, agent_id_of, random_id
from schemas.module_events import Trigger
from streams.memory_log import MemoryLog
from streams.records import decode_command
from streams.topics import COMMANDS, is_genesis
from tests.infra.served import raw_request, served
from tests.processors.fakes import new_log

NAUGHTY = Path(__file__).parents[3] / "shared" / "data" / "naughty_strings.json"
SEALER = parse_keys("k2:" + "Ag" * 21 + "A=,k1:" + "AQ" * 21 + "A=")
BODY = b'{"type": "invoice.paid", "data": {"amount": 12}}'


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    """A database of this module's own."""
    name = f"hooks_{uuid4().hex}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        async with asyncpg.create_pool(postgres_url, database=name, min_size=1, max_size=12) as opened:
            await asyncio.gather(*(HookStore(opened).open() for _ in range(8)))
            yield opened
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@dataclass
class Place:
    """Hooks served on loopback, with a log in memory, and a clock that can be set."""

    client: httpx.AsyncClient
    store: HookStore
    log: MemoryLog
    intake: Intake
    site_id: SiteId = field(default_factory=lambda: SiteId(random_id()))
    ahead_s: float = 0.0
    secrets: dict[str, str] = field(default_factory=dict)

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    async def hook(self, scheme: Scheme = "standard", per_minute: int = 600, sealer: Sealer = SEALER) -> Hook:
        secret = new_secret(scheme)
        hook = await self.store.create(
            sealer,
            secret,
            site_id=self.site_id,
            agent_id=agent_id_of(self.site_id, "sdr"),
            agent_slug="sdr",
            name="from the shop",
            scheme=scheme,
            per_minute=per_minute,
            user="ada",
        )
        self.secrets[hook.id] = secret
        return hook

    def signed(
        self, hook: Hook, body: bytes = BODY, delivery_id: str = "msg_1", event: str | None = None
    ) -> dict[str, str]:
        key = key_of(hook.scheme, self.secrets[hook.id])
        headers = signed_headers(hook.scheme, key, delivery_id, int(self.now_s()), body, event)
        return {"content-type": "application/json", **headers}

    async def deliver(
        self, hook: Hook, body: bytes = BODY, delivery_id: str = "msg_1", changed: dict[str, str | None] | None = None
    ) -> httpx.Response:
        """Send a delivery; `changed` are headers that replace what was signed; None drops one."""
        given = {**self.signed(hook, body, delivery_id), **(changed or {})}
        headers = {name: value for name, value in given.items() if value is not None}
        return await self.client.post(hook.path, content=body, headers=headers)

    def asked(self) -> list[CommandEnvelope]:
        return [decode_command(record) for record in self.log.records(COMMANDS) if not is_genesis(record)]

    def triggers(self) -> list[Trigger]:
        found = []
        for envelope in self.asked():
            assert isinstance(envelope.command, StartExecution)
            found.append(envelope.command.trigger)
        return found


@pytest_asyncio.fixture
async def place(pool: Pool) -> AsyncIterator[Place]:
    clock: list[Callable[[], float]] = [time.time]
    store, log = HookStore(pool), await new_log()
    intake = Intake(store, SEALER, log, now_s=lambda: clock[0]())
    async with served(create_app([hooks_router(intake)])) as client:
        made = Place(client, store, log, intake)
        clock[0] = made.now_s
        yield made


def problem(answer: httpx.Response, status: int, word: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["type"] == f"urn:dramac:problem:{word}"
    return str(answer.json()["detail"])


# --- what is taken --------------------------------------------------------------------------------------------------


async def test_a_signed_delivery_asks_the_hooks_agent_for_a_run(place: Place) -> None:
    hook = await place.hook()
    answer = await place.deliver(hook)
    assert (answer.status_code, answer.json()) == (202, {"id": "msg_1", "status": "accepted"})
    (envelope,) = place.asked()
    assert (envelope.site_id, envelope.agent_id) == (hook.site_id, hook.agent_id)
    assert (envelope.actor, envelope.correlation_id) == (f"hook:{hook.id}", "msg_1")
    (trigger,) = place.triggers()
    assert (trigger.type, trigger.source, trigger.id) == ("webhook", f"/hooks/{hook.id}", "msg_1")
    assert (trigger.event_type, trigger.data) == ("invoice.paid", json.loads(BODY))
    assert abs(trigger.time_ms - time.time() * 1000) < 60_000


async def test_a_delivery_of_github_is_named_and_typed_by_its_headers(place: Place) -> None:
    hook = await place.hook("github")
    body = b'{"action": "opened"}'
    answer = await place.client.post(hook.path, content=body, headers=place.signed(hook, body, "d-1", "pull_request"))
    assert answer.status_code == 202
    (trigger,) = place.triggers()
    assert (trigger.id, trigger.event_type, trigger.data) == ("d-1", "pull_request", {"action": "opened"})


async def test_what_is_sent_again_is_fine_and_starts_nothing_more(place: Place) -> None:
    for scheme in ("standard", "github"):
        hook = await place.hook(scheme)
        before = len(place.asked())
        assert (await place.deliver(hook)).status_code == 202
        for late_s in (1, 3_600, 86_400):  # signed anew, as senders do
            place.ahead_s = late_s
            answer = await place.deliver(hook)
            assert (answer.status_code, answer.json()) == (200, {"id": "msg_1", "status": "duplicate"})
        place.ahead_s = 0
        assert len(place.asked()) == before + 1


async def test_copies_that_arrive_at_once_ask_for_one_run(place: Place) -> None:
    hook = await place.hook()
    answers = await asyncio.gather(*(place.deliver(hook) for _ in range(12)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({(envelope.id, str(envelope.command)) for envelope in place.asked()}) == 1


async def test_a_delivery_that_the_log_did_not_take_may_be_sent_again_and_is_the_same(place: Place) -> None:
    hook = await place.hook()

    def down(*_: object) -> None:
        raise AppendError("the log is down")

    place.log.on_write = down  # type: ignore[assignment]
    answer = await place.deliver(hook)
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    place.log.on_write = None
    place.ahead_s = 30
    assert (await place.deliver(hook)).status_code == 202
    (trigger,) = place.triggers()
    assert trigger.time_ms <= (time.time() + 1) * 1000  # of the first attempt
    assert (await place.deliver(hook)).status_code == 200


async def test_a_log_that_does_not_answer_is_not_waited_for_longer_than_senders_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "SEND_S", 0.05)

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(place.log, "send", hang)
    problem(await place.deliver(await place.hook()), 503, "unavailable")


async def test_an_id_belongs_to_one_body(place: Place) -> None:
    hook, other = await place.hook(), await place.hook()
    assert (await place.deliver(hook)).status_code == 202
    assert "another body" in problem(await place.deliver(hook, b'{"other": 1}'), 409, "id-reused")
    assert (await place.deliver(other, b'{"other": 1}')).status_code == 202  # another hook's ids are its own
    assert [trigger.source for trigger in place.triggers()] == [hook.path, other.path]


async def test_a_delivery_that_the_agents_condition_does_not_want_is_taken_and_starts_nothing(place: Place) -> None:
    config = AgentConfig.model_validate({"slug": "sdr", "name": "x", "type": "assistant", "system_prompt": ""})
    known: dict[tuple[SiteId, AgentId], AgentConfig] = {}

    async def config_of(site_id: SiteId, agent_id: AgentId) -> AgentConfig | None:
        return known.get((site_id, agent_id))

    def holds(config: AgentConfig, trigger: Trigger) -> bool:
        return config.slug == "sdr" and trigger.data.get("wanted", False) is True

    intake = Intake(place.store, SEALER, place.log, conditions=Conditions(holds, config_of))
    hook = await place.hook()
    async with served(create_app([hooks_router(intake)])) as client:
        place.client = client
        assert (await place.deliver(hook, b"{}", "unknown-agent")).json()["status"] == "accepted"
        known[hook.site_id, hook.agent_id] = config
        for _ in range(2):
            answer = await place.deliver(hook, b"{}", "unwanted")
        assert (answer.status_code, answer.json()["status"]) == (200, "duplicate")
        assert (await place.deliver(hook, b'{"wanted": true}', "wanted")).json()["status"] == "accepted"
    assert [trigger.id for trigger in place.triggers()] == ["unknown-agent", "wanted"]
    assert intake.counts == {"accepted": 2, "filtered": 1, "duplicate": 1}


# --- what is refused ------------------------------------------------------------------------------------------------


async def test_unknown_disabled_and_deleted_hooks_answer_alike(place: Place) -> None:
    hook, disabled, deleted = [await place.hook() for _ in range(3)]
    await place.store.enable(disabled, False)
    await place.store.delete(deleted)
    answers = [await place.deliver(one) for one in (disabled, deleted)]
    headers = place.signed(hook)
    for path in (random_id(), "x", hook.id.upper(), hook.id + "0", "%00", "a" * 5_000):
        answers.append(await place.client.post(f"/hooks/{path}", content=BODY, headers=headers))
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    problem(answers[0], 404, "no-such-hook")
    await place.store.enable(disabled, True)
    assert (await place.deliver(disabled)).status_code == 202


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({"webhook-id": None}, 400, "malformed"),
        ({"webhook-id": ""}, 400, "malformed"),
        ({"webhook-id": "msg 1"}, 400, "malformed"),
        ({"webhook-id": "m" * 201}, 400, "malformed"),
        ({"webhook-timestamp": None}, 400, "malformed"),
        ({"webhook-timestamp": "now"}, 400, "malformed"),
        ({"webhook-timestamp": "1"}, 401, "bad-signature"),
        ({"webhook-id": "msg_2"}, 401, "bad-signature"),
        ({"webhook-signature": None}, 401, "bad-signature"),
        ({"webhook-signature": ""}, 401, "bad-signature"),
        ({"webhook-signature": "v1," + "A" * 43 + "="}, 401, "bad-signature"),
        ({"webhook-signature": "v1,x " * 5_000 + "v1,x"}, 401, "bad-signature"),
        ({"content-type": None}, 415, "unsupported-media-type"),
        ({"content-type": "text/plain"}, 415, "unsupported-media-type"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        ({"content-type": "application/json; charset=utf-16"}, 415, "unsupported-media-type"),
        ({"content-type": "json"}, 415, "unsupported-media-type"),
        ({"content-encoding": "gzip"}, 415, "unsupported-media-type"),
    ],
)
async def test_headers_that_are_wrong(place: Place, changed: dict[str, str | None], status: int, word: str) -> None:
    hook = await place.hook()
    problem(await place.deliver(hook, changed=changed), status, word)
    assert place.asked() == []
    assert (await place.deliver(hook)).status_code == 202  # the id was not used up


@pytest.mark.parametrize(
    "media", ["application/json", "APPLICATION/JSON; charset=UTF-8", "application/cloudevents+json"]
)
async def test_json_has_several_names(place: Place, media: str) -> None:
    assert (await place.deliver(await place.hook(), changed={"content-type": media})).status_code == 202


async def test_what_another_hook_signed_is_refused(place: Place) -> None:
    hook, other = await place.hook(), await place.hook()
    place.secrets[hook.id] = place.secrets[other.id]
    problem(await place.deliver(hook), 401, "bad-signature")


async def test_a_recorded_delivery_that_is_played_again_later_is_refused(place: Place) -> None:
    hook = await place.hook()
    headers = place.signed(hook)
    assert (await place.client.post(hook.path, content=BODY, headers=headers)).status_code == 202
    assert (await place.client.post(hook.path, content=BODY, headers=headers)).status_code == 200
    for ahead_s in (301, -302):
        place.ahead_s = ahead_s
        answer = await place.client.post(hook.path, content=BODY, headers=headers)
        assert "5 minutes" in problem(answer, 401, "bad-signature")
    assert len(place.asked()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b'"text"',
        b"{",
        b"{} {}",
        b"NaN",
        b'{"a": NaN}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_bodies_that_are_not_what_agents_are_given(place: Place, body: bytes) -> None:
    hook = await place.hook()
    problem(await place.deliver(hook, body), 400, "wrong-payload")
    assert place.asked() == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"[" * 64 + b"]" * 64,
        b'{"a": "\\u0000", "b": 18446744073709551616, "c": 1e400}',
        b'{"type": 7}',
        b'{"type": ""}',
        b'{"type": "a\\u0000b"}',
        b'{"type": "' + b"x" * 201 + b'"}',
        b'[{"type": "x"}]',
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_odd_bodies_are_data(place: Place, body: bytes) -> None:
    hook = await place.hook()
    answer = await place.deliver(hook, body)
    if b"1e400" in body and answer.status_code == 400:
        return
    assert answer.status_code == 202
    assert place.triggers()[0].event_type is None


async def test_naughty_strings_arrive_as_they_were_sent(place: Place) -> None:
    if not NAUGHTY.exists():
        pytest.skip(f"no strings at {NAUGHTY}")
    texts = json.loads(NAUGHTY.read_text())
    hook = await place.hook(per_minute=60_000)
    bodies = [json.dumps({"type": text, text: text}, ensure_ascii=False).encode() for text in texts]
    for number, body in enumerate(bodies):
        assert (await place.deliver(hook, body, f"naughty-{number}")).status_code == 202
    assert [trigger.data for trigger in place.triggers()] == [json.loads(body) for body in bodies]


@pytest.mark.parametrize("size", [193 * 1024, 10_000_000])
async def test_a_body_that_is_too_large_is_refused(place: Place, size: int) -> None:
    hook = await place.hook()
    body = b'{"a": "' + b"x" * size + b'"}'
    problem(await place.deliver(hook, body), 413, "too-large")
    assert place.asked() == []


async def test_a_body_that_grows_when_it_is_kept_is_refused(place: Place) -> None:
    body = b"[" + b",".join([b"1e15"] * 30_000) + b"]"
    assert len(body) < 160_000
    problem(await place.deliver(await place.hook(), body), 413, "too-large")
    assert place.asked() == []


async def test_a_header_that_stands_twice_is_refused(place: Place) -> None:
    hook = await place.hook()
    headers = [*place.signed(hook).items(), ("webhook-id", "msg_1")]
    problem(await place.client.post(hook.path, content=BODY, headers=headers), 400, "malformed")


async def test_a_body_that_stops_on_the_way_asks_for_nothing(place: Place) -> None:
    hook = await place.hook()
    head = "".join(f"{name}: {value}\r\n" for name, value in place.signed(hook).items())
    started = f"POST {hook.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n{head}\r\n".encode()
    async with served(create_app([hooks_router(place.intake)], body_s=0.2)) as client:
        assert (await raw_request(client, started + BODY[:-1])).startswith(b"HTTP/1.1 408 ")
    assert place.asked() == []
    assert (await place.deliver(hook)).status_code == 202


async def test_who_sends_too_fast_is_told_when_to_come_again(place: Place, pool: Pool) -> None:
    hook, other = await place.hook(per_minute=3), await place.hook(per_minute=3)
    answers = [await place.deliver(hook, BODY, f"m{n}") for n in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    problem(answers[-1], 429, "too-many-deliveries")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert (await place.deliver(other)).status_code == 202
    # Who has no secret can't use up the rate of who has one.
    await pool.execute("DELETE FROM hooks.meters")
    for _ in range(5):
        problem(await place.deliver(hook, changed={"webhook-signature": "v1,x"}), 401, "bad-signature")
    assert (await place.deliver(hook, BODY, "m4")).status_code == 202
    # A third of the minute later there is room for one more.
    await pool.execute("UPDATE hooks.meters SET empty_at = clock_timestamp() + interval '40 s'")
    assert [(await place.deliver(hook, BODY, f"n{n}")).status_code for n in range(2)] == [202, 429]


async def test_a_hook_deleted_in_mid_delivery_answers_as_if_it_never_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = await place.hook()
    counted = place.store.wait_s

    async def deleting(hook: Hook) -> int:
        waited = await counted(hook)
        await place.store.delete(hook)
        return waited

    monkeypatch.setattr(place.store, "wait_s", deleting)
    problem(await place.deliver(hook), 404, "no-such-hook")


# --- secrets --------------------------------------------------------------------------------------------------------


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
