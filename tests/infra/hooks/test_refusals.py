"""Deliveries that are refused, each with the status that tells its sender what to do."""

import pytest

from infra.hooks.store import Hook
from infra.http.app import create_app
from infra.http.hooks import hooks_router
from projections.db import Pool
from schemas.ids import random_id
from tests.infra.hooks.places import BODY, Place, problem
from tests.infra.served import raw_request, served


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
