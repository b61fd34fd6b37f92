"""Telling that an approval waits: by each channel at least once, with the same id each time.

What waits is read from the tables, so only what counts is told, also what began to wait before anybody was to be told.
Each channel has a record of its own of whom it told, and its own retries: one that fails neither holds up another one
nor lets it tell anything twice. No answer of whoever is told approves anything.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import httpx2

from infra.modules.addresses import ModuleAddress
from infra.modules.http import signed
from infra.modules.posting import Posting
from infra.own_schema import OwnSchema
from projections.db import TRANSIENT, Pool
from projections.queries.approvals import SELECT, Approval
from projections.queries.reading import fetch, make
from schemas.errors import UnavailableError
from schemas.exact import dump_exact

logger = logging.getLogger(__name__)

SCHEMA = OwnSchema("notify", Path(__file__).with_name("notify.sql"), "emails_told", lock=0x6E6F7469)  # "noti"

LOOK_S = 2.0  # how often it is looked what waits; a person takes longer
BATCH = 50
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 600.0
LEASE_S = 30.0  # beyond a channel's own time: by then, who was telling has died

_LATER = frozenset({408, 425, 429})

WAITS = "a.status = 'pending' AND e.outcome IS NULL AND a.expires_at > now()"
UNTOLD = f"""{SELECT}
WHERE {WAITS} AND NOT EXISTS (
  SELECT FROM notify.approvals n WHERE n.approval_id = a.id AND n.role = coalesce(a.role, 'approver')
    AND (n.told_at IS NOT NULL OR n.next_at > now())
)
ORDER BY a.id LIMIT {BATCH}
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of telling it once. What is `later` rests for `rest_s` at least."""

    kind: Literal["told", "refused", "later"]
    rest_s: float = 0.0


class Record:
    """Whom a channel told, in a table of its own, whose key begins with approval and role.

    `more` are the other columns of the key, and their types.
    """

    def __init__(self, table: str, **more: str) -> None:
        columns = {"approval_id": "uuid", "role": "text", **more}
        names, last = ", ".join(columns), len(columns) + 1
        values = ", ".join(f"${place}::{kind}" for place, kind in enumerate(columns.values(), 1))
        same = " AND ".join(f"{column} = ${place}" for place, column in enumerate(columns, 1))
        # Nobody is told of what was answered meanwhile. Of several processes, one gets the row: the others find its
        # `next_at` in the future.
        self._claim = f"""
INSERT INTO {table} AS n ({names}, next_at) SELECT {values}, now() + make_interval(secs => ${last})
WHERE EXISTS (
  SELECT FROM projections.ai_agent_approvals a
  LEFT JOIN projections.ai_agent_executions e ON e.site_id = a.site_id AND e.id = a.execution_id
  WHERE a.id = $1 AND coalesce(a.role, 'approver') = $2 AND {WAITS}
)
ON CONFLICT ({names}) DO UPDATE SET attempts = n.attempts + 1, next_at = excluded.next_at
WHERE n.told_at IS NULL AND n.next_at <= now()
RETURNING attempts
"""  # noqa: S608 - the names are ours
        self._done = f"UPDATE {table} SET told_at = now(), refused = ${last} WHERE {same}"  # noqa: S608
        self._rest = f"UPDATE {table} SET next_at = now() + make_interval(secs => ${last}) WHERE {same}"  # noqa: S608
        # No approval waits for so long.
        self._forget = f"DELETE FROM {table} WHERE next_at < now() - interval '90 days'"  # noqa: S608

    async def claim(self, pool: Pool, key: Sequence[object], lease_s: float) -> int | None:
        """Return the number of this attempt; None where nobody is to be told now, or somebody else tells it."""
        attempts: int | None = await pool.fetchval(self._claim, *key, lease_s)
        return attempts

    async def settle(self, pool: Pool, key: Sequence[object], attempts: int, outcome: Outcome) -> None:
        """Keep what came of an attempt: it was the last one, or the next comes after a rest."""
        if outcome.kind == "later":
            rest_s = max(min(FIRST_RETRY_S * 2.0 ** (attempts - 1), LAST_RETRY_S), outcome.rest_s)
            await pool.execute(self._rest, *key, rest_s)
        else:
            await pool.execute(self._done, *key, outcome.kind == "refused")

    async def forget(self, pool: Pool) -> None:
        """Drop what is long over."""
        await pool.execute(self._forget)


@dataclass(frozen=True, slots=True)
class Telling:
    """An approval that a channel has to tell, and the key of that in its record."""

    approval: Approval
    key: tuple[object, ...]


class Channel(Protocol):
    """A way to tell people. One try takes at most `timeout_s`."""

    @property
    def name(self) -> str:
        """What it is, for the worker's log."""
        ...

    @property
    def record(self) -> Record:
        """Whom it told."""
        ...

    @property
    def timeout_s(self) -> float:
        """How long one try may take."""
        ...

    async def due(self, pool: Pool) -> Sequence[Telling]:
        """Return what is to be told now, `BATCH` at most.

        Raises:
            UnavailableError: Postgres does not answer, or has no tables yet.
        """
        ...

    async def tell(self, telling: Telling) -> Outcome:
        """Tell it once, and return what came of it; only cancellation is raised."""
        ...


class ApprovalNotifier:
    """Tells of every approval that waits, by one channel."""

    def __init__(self, pool: Pool, channel: Channel) -> None:
        """Tell nothing yet."""
        self._pool = pool
        self._channel = channel

    async def run(self) -> None:
        """Tell what waits until cancelled."""
        is_forgotten = False
        while True:
            try:
                await SCHEMA.ensure(self._pool)
                if not is_forgotten:
                    await self._channel.record.forget(self._pool)
                    is_forgotten = True
                await self.round()
            except (UnavailableError, *TRANSIENT) as error:
                logger.warning("approvals can't be told of by %s now: %s", self._channel.name, error)
            await asyncio.sleep(LOOK_S)

    async def round(self) -> int:
        """Tell what waits now, and return how often something was told.

        Raises:
            UnavailableError: Postgres does not answer, or has no tables yet.
        """
        told, record = 0, self._channel.record
        for telling in await self._channel.due(self._pool):
            attempts = await record.claim(self._pool, telling.key, self._channel.timeout_s + LEASE_S)
            if attempts is None:
                continue
            outcome = await self._channel.tell(telling)
            await record.settle(self._pool, telling.key, attempts, outcome)
            told += outcome.kind == "told"
        return told


class ApprovalWebhook(Posting):
    """A `Channel` that posts to one address; an async context manager.

    The body is `{"type", "timestamp", "data"}`, signed as Standard Webhooks says (https://www.standardwebhooks.com),
    with a `webhook-id` of approval and role: an escalated approval is told again.
    """

    name = "webhook"
    record = Record("notify.approvals")

    def __init__(
        self,
        address: ModuleAddress,
        *,
        now_s: Callable[[], float] = time.time,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Post nothing yet; the address comes from settings, never from an event."""
        super().__init__(transport)
        self._address = address
        self._now_s = now_s

    @property
    def timeout_s(self) -> float:
        """How long one try may take."""
        return self._address.timeout_s

    async def due(self, pool: Pool) -> Sequence[Telling]:
        """Return what is to be told now."""
        found = [make(Approval, row, json=("arguments",)) for row in await fetch(pool, UNTOLD)]
        return [Telling(approval, (approval.id, approval.role)) for approval in found]

    async def tell(self, telling: Telling) -> Outcome:
        """Post it once."""
        approval = telling.approval
        body = dump_exact(
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
            return Outcome("later")
        if answer.is_success:
            return Outcome("told")
        logger.warning("who was to be told of the approval %s answered with status %s", approval.id, answer.status_code)
        return Outcome("later" if answer.status_code in _LATER or answer.status_code >= 500 else "refused")
