"""Another system is told that an approval waits: signed, at least once, and always under the same id."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import orjson
import pytest
import pytest_asyncio
from pydantic import HttpUrl, SecretStr

from infra.modules.addresses import ModuleAddress
from infra.notify import SCHEMA, ApprovalNotifier, ApprovalWebhook
from projections.db import Pool
from tests.infra.notifying import due, escalate, waiting
from tests.infra.report_places import opened_database
from tests.projections.histories import OTHER_SITE, SITE

SECRET = "only-the-two-of-us-know-this"
ADDRESS = ModuleAddress(url=HttpUrl("https://chat.example.com/approvals"), secret=SecretStr(SECRET), timeout_s=5)


@dataclass
class Receiver(httpx2.AsyncBaseTransport):
    """Answers with these statuses, then with 204; 0 stands for no answer."""

    statuses: list[int] = field(default_factory=list)
    received: list[httpx2.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.received.append(request)
        status = self.statuses.pop(0) if self.statuses else 204
        if status == 0:
            raise httpx2.ConnectError("nobody is there")
        return httpx2.Response(status, headers={"location": "https://elsewhere.example.com"})

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.received]


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with opened_database(postgres_url) as (pool, _):
        await SCHEMA.ensure(pool)
        yield pool


@asynccontextmanager
async def telling(
    pool: Pool, transport: Receiver, now_s: Callable[[], float] = time.time
) -> AsyncIterator[ApprovalNotifier]:
    async with ApprovalWebhook(ADDRESS, now_s=now_s, transport=transport) as webhook:
        yield ApprovalNotifier(pool, webhook)


async def test_what_waits_is_told_once_and_signed(pool: Pool) -> None:
    runs, receiver = await waiting(pool), Receiver()
    async with telling(pool, receiver, lambda: 1_769_247_000.5) as notifier:
        assert [await notifier.round() for _ in range(3)] == [2, 0, 0]
    assert sorted(receiver.ids) == sorted(f"{run.approval_id()}.approver" for run in runs)
    for request in receiver.received:
        body = request.content
        signature = hmac.digest(
            SECRET.encode(), f"{request.headers['webhook-id']}.1769247000.".encode() + body, hashlib.sha256
        )
        assert request.headers["webhook-signature"] == "v1," + base64.b64encode(signature).decode()
        told = orjson.loads(body)
        assert told["type"] == "approval.waiting"
        assert (told["data"]["site_id"], told["data"]["tool_name"], told["data"]["role"]) == (
            SITE,
            "mail_send",
            "approver",
        )
        assert told["data"]["arguments"] == {"q": 1}
        assert SECRET.encode() not in body


async def test_an_escalated_approval_is_told_again(pool: Pool) -> None:
    runs, receiver = await waiting(pool, OTHER_SITE), Receiver()
    async with telling(pool, receiver) as notifier:
        assert await notifier.round() == 2
        await escalate(pool, runs[0])
        assert await notifier.round() == 1
    assert receiver.ids[-1] == f"{runs[0].approval_id()}.manager"


@pytest.mark.parametrize("status", [0, 500, 503, 429, 408])
async def test_who_does_not_take_it_now_is_told_later_under_the_same_id(pool: Pool, status: int) -> None:
    await waiting(pool)
    receiver = Receiver([status, status])
    async with telling(pool, receiver) as notifier:
        assert [await notifier.round(), await notifier.round()] == [0, 0]
        assert len(receiver.received) == 2
        await due(pool)
        assert await notifier.round() == 2
    assert sorted(receiver.ids[:2]) == sorted(receiver.ids[2:])
    assert {row["attempts"] for row in await pool.fetch("SELECT attempts FROM notify.approvals")} == {2}


@pytest.mark.parametrize("status", [302, 400, 401, 404, 410])
async def test_who_refuses_it_is_not_asked_again_and_no_redirect_is_followed(pool: Pool, status: int) -> None:
    await waiting(pool)
    receiver = Receiver([status, status])
    async with telling(pool, receiver) as notifier:
        assert await notifier.round() == 0
        await due(pool)
        assert await notifier.round() == 0
    assert [str(request.url) for request in receiver.received] == [str(ADDRESS.url)] * 2


async def test_several_processes_tell_it_once(pool: Pool) -> None:
    await waiting(pool)
    receiver = Receiver()
    async with (
        telling(pool, receiver) as one,
        telling(pool, receiver) as other,
    ):
        assert sum(await asyncio.gather(*(each.round() for each in (one, other, one, other)))) == 2
    assert len(receiver.received) == 2


async def test_what_a_process_was_telling_as_it_died_is_told_by_the_next(pool: Pool) -> None:
    await waiting(pool)
    hanging, receiver = asyncio.Event(), Receiver()

    class Dies(Receiver):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            hanging.set()
            await asyncio.Event().wait()
            raise AssertionError

    async with telling(pool, Dies()) as first:
        work = asyncio.create_task(first.round())
        await hanging.wait()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    async with telling(pool, receiver) as second:
        assert await second.round() == 1
        await due(pool)
        assert await second.round() == 1
    assert len(set(receiver.ids)) == 2


async def test_it_goes_on_by_itself(pool: Pool) -> None:
    await waiting(pool)
    receiver = Receiver()
    async with telling(pool, receiver) as notifier:
        task = asyncio.create_task(notifier.run())
        async with asyncio.timeout(10):
            while len(receiver.received) < 2:  # noqa: ASYNC110 - what is awaited has no event of its own
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
