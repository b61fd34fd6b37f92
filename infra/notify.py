"""Telling another system that an approval waits: a signed webhook, at least once, with the same id each time.

What waits is read from the tables, so only what counts is told, also what began to wait before anybody was to be told.
The body is `{"type", "timestamp", "data"}`, signed as Standard Webhooks says (https://www.standardwebhooks.com), with a
`webhook-id` of approval and role: an escalated approval is told again. No answer of the receiver approves anything.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import httpx2
import orjson

from infra.modules.addresses import ModuleAddress
from infra.modules.http import signed
from infra.own_schema import OwnSchema
from projections.db import TRANSIENT, Pool
from projections.queries.approvals import SELECT, Approval
from projections.queries.reading import fetch, make
from schemas.errors import UnavailableError

logger = logging.getLogger(__name__)

SCHEMA = OwnSchema("notify", Path(__file__).with_name("notify.sql"), "approvals_told", lock=0x6E6F7469)  # "noti"

LOOK_S = 2.0  # how often it is looked what waits; a person takes longer
BATCH = 50
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 600.0
LEASE_S = 30.0  # beyond an address's own time: by then, who was telling has died

_LATER = frozenset({408, 425, 429})

UNTOLD = f"""{SELECT}
WHERE a.status = 'pending' AND e.outcome IS NULL AND a.expires_at > now() AND NOT EXISTS (
  SELECT FROM notify.approvals n WHERE n.approval_id = a.id AND n.role = coalesce(a.role, 'approver')
    AND (n.told_at IS NOT NULL OR n.next_at > now())
)
ORDER BY a.id LIMIT {BATCH}
"""
# Of several processes, one gets the row: the others find its `next_at` in the future.
CLAIM = """
INSERT INTO notify.approvals AS n (approval_id, role, next_at) VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (approval_id, role) DO UPDATE SET attempts = n.attempts + 1, next_at = excluded.next_at
WHERE n.told_at IS NULL AND n.next_at <= now()
RETURNING attempts
"""
TOLD = "UPDATE notify.approvals SET told_at = now() WHERE approval_id = $1 AND role = $2"
REST = "UPDATE notify.approvals SET next_at = now() + make_interval(secs => $3) WHERE approval_id = $1 AND role = $2"
FORGET = "DELETE FROM notify.approvals WHERE next_at < now() - interval '90 days'"  # no approval waits for so long

Outcome = Literal["told", "refused", "later"]


class ApprovalNotifier:
    """Tells one address of every approval that waits; an async context manager."""

    def __init__(
        self,
        pool: Pool,
        address: ModuleAddress,
        *,
        now_s: Callable[[], float] = time.time,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Tell nothing yet; the address comes from settings, never from an event."""
        self._pool = pool
        self._address = address
        self._now_s = now_s
        # No proxy and no redirect: what is signed goes where the settings say, and nowhere else.
        self._client = httpx2.AsyncClient(trust_env=False, follow_redirects=False, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._client.aclose()

    async def run(self) -> None:
        """Tell what waits until cancelled."""
        is_forgotten = False
        while True:
            try:
                await SCHEMA.ensure(self._pool)
                if not is_forgotten:
                    await self._pool.execute(FORGET)
                    is_forgotten = True
                await self.round()
            except (UnavailableError, *TRANSIENT) as error:
                logger.warning("approvals can't be told of now: %s", error)
            await asyncio.sleep(LOOK_S)

    async def round(self) -> int:
        """Tell what waits now, and return of how many approvals.

        Raises:
            UnavailableError: Postgres does not answer, or has no tables yet.
        """
        told = 0
        for row in await fetch(self._pool, UNTOLD):
            approval = make(Approval, row, json=("arguments",))
            named = (approval.id, approval.role)
            attempts = await self._pool.fetchval(CLAIM, *named, self._address.timeout_s + LEASE_S)
            if attempts is None:
                continue  # somebody else is telling it
            outcome = await self._tell(approval)
            if outcome == "later":
                await self._pool.execute(REST, *named, min(FIRST_RETRY_S * 2.0 ** (attempts - 1), LAST_RETRY_S))
            else:
                await self._pool.execute(TOLD, *named)
                told += outcome == "told"
        return told

    async def _tell(self, approval: Approval) -> Outcome:
        body = orjson.dumps(
            {"type": "approval.waiting", "timestamp": approval.escalated_at or approval.created_at, "data": approval}
        )
        key = f"{approval.id}.{approval.role}"
        headers = {
            "Content-Type": "application/json",
            **signed(self._address.secret.get_secret_value(), key, int(self._now_s()), body),
        }
        try:
            async with asyncio.timeout(self._address.timeout_s):
                answer = await self._client.post(
                    str(self._address.url), content=body, headers=headers, timeout=self._address.timeout_s
                )
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as error:
            logger.warning("who is to be told of approvals does not answer: %s", type(error).__name__)
            return "later"
        if answer.is_success:
            return "told"
        logger.warning("who was to be told of the approval %s answered with status %s", approval.id, answer.status_code)
        return "later" if answer.status_code in _LATER or answer.status_code >= 500 else "refused"
