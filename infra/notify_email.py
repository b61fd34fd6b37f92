"""Telling by email that an approval waits, through the gateway of the modules, as the tool `email_send` does.

Who gets it is said by site and role in the file of `DRAMAC_GOVERNANCE`. Each recipient gets an email of their own,
under a key that stays the same however often it is tried: a gateway that acts once for a key sends it once. The text
is made of what never changes, so a repeated call is the same call.

Nothing of the call's arguments is in it. They are a model's words, and may be secrets or an attacker's: an email passes
strangers and stays in mailboxes, and its reader trusts it. Other texts (the tool's name, why it is risky) are bounded,
in one line, with every character visible and no address that a mail program would make a link of.
"""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from infra.governance import Governance
from infra.notify import BATCH, WAITS, Outcome, Record, Telling
from infra.visible import visible
from processors.tools.builtin.communication import SEND_EMAIL
from processors.tools.call import call_tool
from processors.tools.port import BusyError, ModuleGateway, ToolError, ToolRequest
from projections.db import Pool
from projections.queries.approvals import SELECT, Approval
from projections.queries.reading import fetch, make
from schemas.errors import UnavailableError
from schemas.ids import CallId, named_id
from schemas.message import Json, JsonObject

logger = logging.getLogger(__name__)

MODULE, ACTION = "email", "send"
DEPTH = 1_000  # far beyond any agent's `max_causation_depth`: what follows from such an email wakes nobody
NAME_CHARS = 80
REASON_CHARS = 400

# A site that names its own approvers ($4) has no others. Whoever has no address takes no place in the batch.
UNTOLD = f"""
SELECT s.*, w.recipient FROM ({SELECT} WHERE {WAITS}) AS s
JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[])) AS w (site_id, role, recipient)
  ON w.role = s.role AND (w.site_id = s.site_id OR (w.site_id = '' AND s.site_id <> ALL ($4::text[])))
WHERE NOT EXISTS (
  SELECT FROM notify.emails n WHERE n.approval_id = s.id::uuid AND n.role = s.role
    AND n.escalated = (s.escalated_at IS NOT NULL) AND n.recipient = w.recipient
    AND (n.told_at IS NOT NULL OR n.next_at > now())
)
ORDER BY s.id, w.recipient LIMIT {BATCH}
"""  # noqa: S608 - nothing in it comes from outside

# What mail programs make links of: a scheme's end, and a dot (also of other scripts) before a letter.
_LINKED = re.compile(r"://|[.\u3002\uff0e\uff61](?=[^\W\d_])")


class ApprovalEmails:
    """A `Channel` that lets the module `email` send to each approver whom the governance file names."""

    name = "email"
    record = Record("notify.emails", escalated="boolean", recipient="text")
    timeout_s = SEND_EMAIL.timeout_s

    def __init__(self, gateway: ModuleGateway, governance: Governance) -> None:
        """Send nothing yet. `gateway` acts once for a call's id."""
        self._gateway = gateway
        named = governance.named_approvers()
        self._sites = [site_id or "" for site_id, _, _ in named]
        self._roles = [role for _, role, _ in named]
        self._addresses = [address for _, _, address in named]
        self._others = [site_id for site_id, part in governance.sites.items() if part.approvers is not None]

    async def due(self, pool: Pool) -> Sequence[Telling]:
        """Return what is to be sent now, for each recipient."""
        found = []
        for row in await fetch(pool, UNTOLD, self._sites, self._roles, self._addresses, self._others):
            columns = dict(row)
            recipient = columns.pop("recipient")
            approval = make(Approval, columns, json=("arguments",))
            found.append(Telling(approval, (approval.id, approval.role, approval.escalated_at is not None, recipient)))
        return found

    async def tell(self, telling: Telling) -> Outcome:
        """Let it be sent once, in the time that the tool has."""
        approval, outcome = telling.approval, Outcome("later")

        async def answer(request: ToolRequest) -> Json:
            nonlocal outcome
            try:
                await self._gateway.call(MODULE, ACTION, request)
                outcome = Outcome("told")
            except (ToolError, UnavailableError) as error:
                outcome = _failed(error)
                logger.warning("the approval %s can't be told of by email: %s", approval.id, error)

        # What else goes wrong there is logged, and tried again.
        await call_tool(answer, _request(telling), attempts=1)
        return outcome


def _failed(error: ToolError | UnavailableError) -> Outcome:
    if isinstance(error, ToolError) and not error.retryable:
        return Outcome("refused")
    rest_s = error.retry_after_s if isinstance(error, ToolError | BusyError) else None
    return Outcome("later", rest_s or 0.0)


def _request(telling: Telling) -> ToolRequest:
    approval, (*names, recipient) = telling.approval, map(str, telling.key)
    return ToolRequest(
        call_id=CallId(named_id("approval email", *names, recipient)),
        tool=SEND_EMAIL,
        arguments={"to": [recipient], **email_of(approval)},
        site_id=approval.site_id,
        agent_id=approval.agent_id,
        execution_id=approval.execution_id,
        correlation_id=approval.id,
        depth=DEPTH,
    )


def email_of(approval: Approval) -> JsonObject:
    """Return subject and body: a function of what never changes while an approval waits for a role."""
    agent = _told(approval.agent_slug or approval.agent_id, NAME_CHARS)
    tool = _told(approval.tool_name, NAME_CHARS)
    command = f"DRAMAC_SITE={approval.site_id} dramac approvals"
    lines = [
        "A call of a tool waits for a person's approval.",
        "",
        f"agent:     {agent}",
        f"tool:      {tool}",
        f"risk:      {_told(approval.risk_level, NAME_CHARS)}",
        f'why:       "{_told(approval.risk_explanation, REASON_CHARS)}"',
        f"asked for: {_moment(approval.created_at)}",
        *([f"escalated: {_moment(approval.escalated_at)}; nobody answered before"] if approval.escalated_at else []),
        f"until:     {_moment(approval.expires_at)}",
        f"role:      {approval.role}",
        f"site:      {approval.site_id}",
        f"approval:  {approval.id}",
        "",
        "What exactly would be done is not said here. To see it, and then to answer:",
        "",
        f"    {command} show {approval.id}",
        f'    {command} approve {approval.id} --note "..."',
        f'    {command} deny {approval.id} --note "..."',
        "",
        "This email approves nothing, and neither does a reply to it. There is no link in it.",
        "",
    ]
    return {"subject": f"Approval waiting: {tool} of {agent}", "body": "\n".join(lines)}


def _told(text: str, most: int) -> str:
    """Return a text that others wrote, in one line, at most so long, that hides nothing and links to nowhere."""
    line = visible(" ".join(text.split()))
    line = _LINKED.sub(lambda found: f"{found[0][0]} {found[0][1:]}", line)
    return line if len(line) <= most else line[: most - 1] + "…"


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
