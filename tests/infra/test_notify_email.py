"""Approvers are told by email: each once, of their role and site alone, whatever fails and whatever names say."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from pydantic import HttpUrl, SecretStr, ValidationError

from infra.governance import Governance
from infra.modules.addresses import ModuleAddress
from infra.modules.http import HttpModules
from infra.modules.sandbox import Sandbox
from infra.notify import BATCH, SCHEMA, ApprovalNotifier, ApprovalWebhook
from infra.notify_email import DEPTH, ApprovalEmails
from processors.tools.builtin.communication import SEND_EMAIL
from processors.tools.port import BusyError, ModuleGateway, ToolError, ToolRequest
from processors.tools.validation import validator_for
from projections.db import Pool
from schemas.agents import AgentConfig
from schemas.errors import UnavailableError
from schemas.ids import UUID_PATTERN
from schemas.message import Json
from tests.infra.notifying import due, escalate, waiting
from tests.infra.report_places import opened_database
from tests.infra.test_http_modules import Module, cut, says
from tests.infra.test_sandbox import Published
from tests.infra.web.wires import answer, serving
from tests.projections.histories import OTHER_SITE, SITE, Stream

ANN, BOB, CHO, DEE = (f"{name}@example.com" for name in ("ann", "bob", "cho", "dee"))


def named(**approvers: list[str]) -> Governance:
    return Governance.model_validate({"approvers": approvers})


def at(port: int) -> ModuleAddress:
    return ModuleAddress(url=HttpUrl(f"http://127.0.0.1:{port}/here"), secret=SecretStr("sixteen characters"))


@dataclass
class Gateway:
    """Fails as often as it has failures, then takes what it is given."""

    failures: list[Exception] = field(default_factory=list)
    asked: list[ToolRequest] = field(default_factory=list)

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        assert (module, action) == (SEND_EMAIL.module, SEND_EMAIL.action)
        assert validator_for(SEND_EMAIL)(request.arguments) is None
        self.asked.append(request)
        if self.failures:
            raise self.failures.pop(0)
        return {"status": "sent"}

    @property
    def told(self) -> list[tuple[str, str]]:
        """Approval and recipient of each email."""
        assert all(len(request.arguments["to"]) == 1 for request in self.asked)
        return sorted((request.correlation_id, request.arguments["to"][0]) for request in self.asked)


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with opened_database(postgres_url) as (pool, _):
        await SCHEMA.ensure(pool)
        yield pool


def emails(pool: Pool, gateway: ModuleGateway, governance: Governance) -> ApprovalNotifier:
    return ApprovalNotifier(pool, ApprovalEmails(gateway, governance))


async def test_each_approver_of_the_role_gets_one_email_of_what_waits(pool: Pool) -> None:
    runs, gateway = await waiting(pool), Gateway()
    notifier = emails(pool, gateway, named(approver=[ANN, BOB], manager=[CHO]))
    assert [await notifier.round() for _ in range(3)] == [4, 0, 0]
    assert gateway.told == sorted((run.approval_id(), address) for run in runs for address in (ANN, BOB))
    keys = {request.call_id for request in gateway.asked}
    assert len(keys) == 4
    assert all(UUID_PATTERN.fullmatch(key) for key in keys)
    first = next(request for request in gateway.asked if request.correlation_id == runs[0].approval_id())
    assert (first.site_id, first.agent_id, first.execution_id) == (SITE, runs[0].stream.agent_id, runs[0].id)
    assert first.arguments["subject"] == "Approval waiting: mail_send of greeter"
    assert f"approvals show {first.correlation_id}" in first.arguments["body"]
    assert "until:     2126-01-24 09:30:00 UTC" in first.arguments["body"]


async def test_an_email_is_sent_once_though_its_sender_dies_before_it_is_recorded(pool: Pool) -> None:
    runs, sandbox = await waiting(pool), Sandbox(pool, Published())
    sent = asyncio.Event()

    class Dies(Gateway):
        async def call(self, module: str, action: str, request: ToolRequest) -> Json:
            await sandbox.call(module, action, request)
            sent.set()
            return await asyncio.Event().wait()

    governance = named(approver=[ANN])
    work = asyncio.create_task(emails(pool, Dies(), governance).round())
    await sent.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    second = emails(pool, sandbox, governance)
    assert await second.round() == 1  # the other one waits for the first one's time to be over
    await due(pool)
    assert [await second.round(), await second.round()] == [1, 0]
    rows = await pool.fetch("SELECT recipients, status, body FROM sandbox.emails")
    assert [(row["recipients"], row["status"]) for row in rows] == [([ANN], "sent")] * 2
    assert {run.approval_id() for run in runs} == {re.findall(r"show (\S+)", row["body"])[0] for row in rows}
    assert sorted([r["attempts"] for r in await pool.fetch("SELECT attempts FROM notify.emails")]) == [1, 2]


async def test_several_processes_send_it_once(pool: Pool) -> None:
    await waiting(pool)
    gateway, governance = Gateway(), named(approver=[ANN, BOB])
    one, other = (emails(pool, gateway, governance) for _ in range(2))
    assert sum(await asyncio.gather(*(each.round() for each in (one, other, one, other)))) == 4
    assert len(gateway.asked) == 4


async def test_who_is_asked_after_escalation_is_told_and_nobody_else_again(pool: Pool) -> None:
    (first, second), gateway = await waiting(pool), Gateway()
    notifier = emails(pool, gateway, named(approver=[ANN], manager=[CHO]))
    assert await notifier.round() == 2
    await escalate(pool, first)
    assert [await notifier.round(), await notifier.round()] == [1, 0]
    assert gateway.told == sorted([(first.approval_id(), ANN), (second.approval_id(), ANN), (first.approval_id(), CHO)])
    assert "escalated: 2026-01-25 09:30:00 UTC" in gateway.asked[-1].arguments["body"]


async def test_a_role_that_is_asked_again_by_escalation_is_told_again(pool: Pool) -> None:
    (first, _), gateway = await waiting(pool), Gateway()
    notifier = emails(pool, gateway, named(approver=[ANN]))
    assert await notifier.round() == 2
    await escalate(pool, first, "approver")
    assert await notifier.round() == 1
    assert len({request.call_id for request in gateway.asked}) == 3


@pytest.mark.parametrize("change", ["status = 'approved'", "role = 'manager'", "expires_at = now()"])
async def test_nobody_is_told_of_what_changed_while_another_email_was_sent(pool: Pool, change: str) -> None:
    await waiting(pool)

    class Slow(Gateway):
        async def call(self, module: str, action: str, request: ToolRequest) -> Json:
            others = f"UPDATE projections.ai_agent_approvals SET {change} WHERE id <> $1"
            await pool.execute(others, request.correlation_id)
            return await super().call(module, action, request)

    assert await emails(pool, Slow(), named(approver=[ANN], manager=[])).round() == 1


async def test_a_site_s_own_approvers_stand_in_place_of_the_others(pool: Pool) -> None:
    runs, gateway = await waiting(pool, SITE, OTHER_SITE), Gateway()
    sites = {OTHER_SITE.upper(): {"approvers": {"approver": [DEE]}}}
    governance = Governance.model_validate({"approvers": {"approver": [ANN], "manager": [CHO]}, "sites": sites})
    notifier = emails(pool, gateway, governance)
    assert await notifier.round() == 4
    expected = [(run.approval_id(), DEE if run.stream.site_id == OTHER_SITE else ANN) for run in runs]
    assert gateway.told == sorted(expected)
    assert all((request.arguments["to"] == [DEE]) == (request.site_id == OTHER_SITE) for request in gateway.asked)
    await escalate(pool, runs[-1])  # to a role that has no address at this site
    await escalate(pool, runs[0])
    assert [await notifier.round(), await notifier.round()] == [1, 0]
    assert gateway.asked[-1].arguments["to"] == [CHO]


@pytest.mark.parametrize("own", [{}, {"approver": []}, {"manager": [DEE]}])
async def test_a_site_whose_own_part_names_nobody_for_a_role_tells_nobody(
    pool: Pool, own: dict[str, list[str]]
) -> None:
    await waiting(pool)
    gateway = Gateway()
    governance = Governance.model_validate({"approvers": {"approver": [ANN]}, "sites": {SITE: {"approvers": own}}})
    assert await emails(pool, gateway, governance).round() == 0
    assert gateway.asked == []


async def test_what_nobody_has_an_address_for_keeps_nothing_else_waiting(pool: Pool) -> None:
    stream = Stream(OTHER_SITE).created()
    others = [stream.started(f"{number}").assembled().thought("", "mail_send") for number in range(120)]
    for run in others:
        run.approval_requested()
    runs, gateway = await waiting(pool, SITE, besides=[stream]), Gateway()
    first = sorted(run.approval_id() for run in (*runs, *others))[:BATCH]
    assert any(run.approval_id() not in first for run in runs)
    governance = Governance.model_validate({"sites": {SITE: {"approvers": {"approver": [ANN]}}}})
    assert await emails(pool, gateway, governance).round() == 2
    assert gateway.told == sorted((run.approval_id(), ANN) for run in runs)


@pytest.mark.parametrize(
    "failure",
    [
        UnavailableError("nobody is there"),
        BusyError("it is busy"),
        ToolError("Later.", retryable=True),
        KeyError("a fault of ours"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_what_is_not_taken_now_is_sent_later_as_the_very_same_call(pool: Pool, failure: Exception) -> None:
    await waiting(pool)
    gateway = Gateway([failure, failure])
    notifier = emails(pool, gateway, named(approver=[ANN]))
    assert [await notifier.round(), await notifier.round()] == [0, 0]
    assert len(gateway.asked) == 2
    await due(pool)
    assert await notifier.round() == 2
    assert gateway.asked[:2] == gateway.asked[2:]


async def test_a_module_over_http_whose_answer_was_lost_sends_it_once(pool: Pool) -> None:
    await waiting(pool)
    module = Module(before=[says("", "503 Service Unavailable")], after=[cut])
    async with serving(module.serve) as port, HttpModules({"email": at(port)}) as gateway:
        notifier = emails(pool, gateway, named(approver=[ANN]))
        assert await notifier.round() == 0
        await due(pool)
        assert [await notifier.round(), await notifier.round()] == [2, 0]
    assert {line for line, _, _ in module.requests} == {"POST /here/send HTTP/1.1"}
    assert (len(module.requests), len(module.applied)) == (4, 2)
    assert [sent["given"]["to"] for sent in module.applied.values()] == [[ANN], [ANN]]


async def test_a_gateway_that_asks_for_time_gets_it(pool: Pool) -> None:
    await waiting(pool)
    gateway = Gateway([BusyError("it is busy", retry_after_s=60.0), BusyError("it is busy")])
    assert await emails(pool, gateway, named(approver=[ANN])).round() == 0
    rests = await pool.fetch("SELECT extract(epoch FROM next_at - now()) AS s FROM notify.emails ORDER BY next_at")
    assert [round(float(row["s"]), -1) for row in rests] in ([0.0, 60.0], [10.0, 60.0])


async def test_what_is_refused_is_not_sent_again_and_known_as_refused(pool: Pool) -> None:
    await waiting(pool)
    gateway = Gateway([ToolError("There is no such mailbox.")])
    notifier = emails(pool, gateway, named(approver=[ANN]))
    assert await notifier.round() == 1
    await due(pool)
    assert await notifier.round() == 0
    assert len(gateway.asked) == 2
    rows = await pool.fetch("SELECT refused, told_at FROM notify.emails ORDER BY approval_id")
    assert [(row["refused"], row["told_at"] is not None) for row in rows] == [(True, True), (False, True)]


class Hangs(Gateway):
    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        await super().call(module, action, request)
        return await asyncio.Event().wait()


RECORDED = "SELECT count(told_at) FROM notify.approvals"


@dataclass
class Chat:
    """Answers every webhook with a status."""

    status: str = "204 No Content"
    taken: int = 0

    async def serve(self, raw: bytes, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        writer.write(answer(status=self.status))

    @asynccontextmanager
    async def told(self, pool: Pool) -> AsyncIterator[ApprovalNotifier]:
        """Yield who tells it."""
        async with serving(self.serve) as port, ApprovalWebhook(at(port)) as webhook:
            yield ApprovalNotifier(pool, webhook)


@pytest.mark.parametrize("gateway", [Gateway([UnavailableError("down")] * 2), Hangs()], ids=["down", "hangs"])
async def test_a_gateway_that_fails_delays_emails_alone(pool: Pool, gateway: Gateway) -> None:
    await waiting(pool)
    chat, governance = Chat(), named(approver=[ANN])
    async with chat.told(pool) as webhooks:
        parts = [asyncio.create_task(part.run()) for part in (emails(pool, gateway, governance), webhooks)]
        async with asyncio.timeout(10):
            while not gateway.asked or await pool.fetchval(RECORDED) < 2:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await due(pool)
        works = Gateway()
        assert await emails(pool, works, governance).round() == 2
        assert await webhooks.round() == 0
    assert (chat.taken, len(works.asked)) == (2, 2)


async def test_a_webhook_that_fails_neither_delays_nor_repeats_an_email(pool: Pool) -> None:
    await waiting(pool)
    gateway, chat = Gateway(), Chat("503 Service Unavailable")
    notifier = emails(pool, gateway, named(approver=[ANN]))
    async with chat.told(pool) as webhooks:
        assert [await webhooks.round(), await notifier.round()] == [0, 2]
        await due(pool)
        assert [await webhooks.round(), await notifier.round()] == [0, 0]
    assert (chat.taken, len(gateway.asked)) == (4, 2)


async def test_what_follows_from_such_an_email_wakes_no_agent(pool: Pool) -> None:
    await waiting(pool)
    published = Published()
    assert await emails(pool, Sandbox(pool, published), named(approver=[ANN])).round() == 2
    depths = [int(event["extensions"]["causationdepth"]) for event in published.events]
    assert (published.types, depths) == (["email.sent"] * 2, [DEPTH + 1] * 2)
    with pytest.raises(ValidationError, match="max_causation_depth"):
        AgentConfig(slug="a", name="a", agent_type="assistant", system_prompt="", max_causation_depth=DEPTH)


async def test_the_table_is_added_to_what_an_earlier_release_made(pool: Pool) -> None:
    await waiting(pool)
    async with pool.acquire() as db:
        await db.execute("DROP SCHEMA notify CASCADE; CREATE SCHEMA notify")
        await db.execute(
            "CREATE TABLE notify.approvals (approval_id uuid, role text, attempts integer NOT NULL DEFAULT 1,"
            " next_at timestamptz NOT NULL, told_at timestamptz, PRIMARY KEY (approval_id, role));"
            "CREATE INDEX approvals_told ON notify.approvals (told_at);"
            "INSERT INTO notify.approvals SELECT id, 'approver', 1, now(), now() FROM projections.ai_agent_approvals"
        )
    await SCHEMA.ensure(pool)
    async with Chat().told(pool) as webhooks:
        assert await webhooks.round() == 0
    assert await emails(pool, Gateway(), named(approver=[ANN])).round() == 2


async def test_no_address_and_no_text_is_logged(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    await waiting(pool)
    caplog.set_level(logging.DEBUG)
    gateway = Gateway([UnavailableError("nobody is there"), KeyError("a fault of ours")])
    assert await emails(pool, gateway, named(approver=[ANN])).round() == 0
    assert "nobody is there" in caplog.text
    assert ANN not in caplog.text
    assert "Approval waiting" not in caplog.text
