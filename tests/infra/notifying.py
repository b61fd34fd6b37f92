"""Approvals that wait, for those who tell of them."""

from collections.abc import Sequence

from projections.db import Pool
from projections.projector import Projector
from schemas.ids import SiteId
from tests.projections.histories import SITE, Run, Stream
from tests.projections.journal import Journal, new_journal


async def waiting(pool: Pool, *sites: SiteId, besides: Sequence[Stream] = ()) -> list[Run]:
    """Fill the tables anew with approvals, of which two wait at each site, and with what `besides` says."""
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'projections'")
    names = ", ".join(f"projections.{row[0]}" for row in tables if "migration" not in row[0])
    await pool.execute(
        f"TRUNCATE notify.approvals, notify.emails, sandbox.emails, sandbox.applied_calls, {names} CASCADE"
    )
    runs, journal = [], await new_journal(Journal())
    for site in sites or (SITE,):
        stream = Stream(site).created()
        runs += [stream.started(name).assembled().thought("", "mail_send").approval_requested() for name in ("1", "2")]
        stream.started("3").assembled().thought("", "mail_send").approval_requested().approval_resolved(approved=True)
        stream.started("4").assembled().thought("", "mail_send").approval_requested().cancelled()
        await journal.tell(stream)
    for stream in besides:
        await journal.tell(stream)
    await Projector(journal, pool).catch_up()
    await pool.execute("UPDATE projections.ai_agent_approvals SET expires_at = '2126-01-24T09:30:00Z'")
    return runs


async def escalate(pool: Pool, run: Run, role: str = "manager") -> None:
    """Let another role be asked."""
    await pool.execute(
        "UPDATE projections.ai_agent_approvals SET role = $2, escalated_at = '2026-01-25T09:30:00Z' WHERE id = $1",
        run.approval_id(),
        role,
    )


async def due(pool: Pool) -> None:
    """Let all rests be over."""
    for table in ("approvals", "emails"):
        await pool.execute(f"UPDATE notify.{table} SET next_at = now() WHERE told_at IS NULL")
