"""What approvers read: enough to go and look, nothing of the arguments, and nothing that a name could smuggle in."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from infra.notify_email import email_of
from processors.tools.builtin.communication import SEND_EMAIL
from processors.tools.validation import validator_for
from projections.queries.approvals import Approval
from schemas.ids import AgentId, ApprovalId, CallId, ExecutionId
from tests.naughty import naughty_strings
from tests.projections.histories import SITE

APPROVAL = Approval(
    site_id=SITE,
    id=ApprovalId("019bef5e-1234-8abc-9def-0123456789ab"),
    execution_id=ExecutionId("019bef5e-0000-8abc-9def-0123456789ab"),
    agent_id=AgentId("0f8fad5b-d9cb-469f-a165-70867728950e"),
    agent_slug="greeter",
    call_id=CallId("019bef5e-1111-8abc-9def-0123456789ab"),
    step_number=1,
    tool_name="email_send",
    arguments={"to": ["secret@example.com"]},
    action_description="Send Email: to=['secret@example.com']",
    risk_level="critical",
    risk_explanation="it goes to many people",
    status="pending",
    created_at=datetime(2026, 1, 24, 9, 30, tzinfo=UTC),
    expires_at=datetime(2026, 1, 25, 9, 30, tzinfo=UTC),
    resolved_at=None,
    resolved_by=None,
    resolution_note=None,
    role="approver",
    escalated_at=None,
    edited_by=None,
    replaces=None,
    replaced_by=None,
    call_sha256="0" * 64,
    requested_by="user:zoe",
)
BODY = """\
A call of a tool waits for a person's approval.

agent:     greeter
tool:      email_send
risk:      critical
why:       "it goes to many people"
asked for: 2026-01-24 09:30:00 UTC
until:     2026-01-25 09:30:00 UTC
role:      approver
site:      11111111-1111-8111-8111-111111111111
approval:  019bef5e-1234-8abc-9def-0123456789ab

What exactly would be done is not said here. To see it, and then to answer:

    DRAMAC_SITE=11111111-1111-8111-8111-111111111111 dramac approvals show 019bef5e-1234-8abc-9def-0123456789ab
    DRAMAC_SITE=11111111-1111-8111-8111-111111111111 dramac approvals approve 019bef5e-1234-8abc-9def-0123456789ab \
--note "..."
    DRAMAC_SITE=11111111-1111-8111-8111-111111111111 dramac approvals deny 019bef5e-1234-8abc-9def-0123456789ab \
--note "..."

This email approves nothing, and neither does a reply to it. There is no link in it.
"""


def test_the_text_says_what_waits_and_how_to_answer() -> None:
    assert email_of(APPROVAL) == {"subject": "Approval waiting: email_send of greeter", "body": BODY}
    escalated = str(email_of(replace(APPROVAL, escalated_at=APPROVAL.expires_at))["body"])
    assert "\nescalated: 2026-01-25 09:30:00 UTC; nobody answered before\n" in escalated


HOSTILE = [
    "a\r\nBcc: eve@evil.example",
    "a\nuntil: never",
    "a\u2028\u2029\x85\x0b\x0cb",
    "\u202etxt.exe\u202c",
    "\x00\x1b[2J\ud800",
    "a\u200bb\u2066c",
    "approve at https://evil.example/approve?id=1 or www.evil.example now",
    "mailto:eve@evil.example javascript://x",
    "evil\u3002example evil\uff0eexample",
    "x" * 10_000,
]


def _is_harmless(subject: str, body: str) -> None:
    assert subject.isprintable()
    assert body.replace("\n", "").isprintable()
    assert body.count("\n") == BODY.count("\n")
    assert re.search(r"://|[.\u3002\uff0e\uff61][^\W\d_]", f"{subject}\n{body}") is None
    assert body.splitlines()[8:] == BODY.splitlines()[8:]
    assert (len(subject) < 200, len(body) < 2_000) == (True, True)
    assert validator_for(SEND_EMAIL)({"to": ["ann@example.com"], "subject": subject, "body": body}) is None


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_names_and_reasons_begin_no_header_and_no_line_hide_nothing_and_link_to_nowhere(text: str) -> None:
    told = email_of(replace(APPROVAL, agent_slug=text, tool_name=text, risk_level=text, risk_explanation=text))
    _is_harmless(str(told["subject"]), str(told["body"]))


def test_strings_that_break_programs_break_no_email() -> None:
    for text in naughty_strings():
        told = email_of(replace(APPROVAL, agent_slug=text, tool_name=text, risk_level=text, risk_explanation=text))
        _is_harmless(str(told["subject"]), str(told["body"]))


def test_nothing_of_the_arguments_is_told() -> None:
    told = email_of(APPROVAL)
    assert "secret" not in f"{told}"
    other = replace(APPROVAL, arguments={"password": "hunter2"}, action_description="password='hunter2'")
    assert email_of(other) == told
