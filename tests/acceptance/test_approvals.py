"""A risky action from the question to the deed, on real servers, by the command line, with a worker killed between.

Whoever may answer is told by email, of each approval once.
"""

import asyncio
from functools import partial
from pathlib import Path

import orjson
import pytest

from infra.asking import ask
from infra.cli.common import REFUSED
from schemas.commands import StartExecution
from schemas.events import ApprovalRequested, CommandRejected, ExecutionCompleted, ToolRequested
from schemas.governance import Requester
from schemas.ids import AgentId, SiteId, random_id
from schemas.module_events import Trigger
from tests.acceptance.system import System, config, kill, new_site, until
from tests.infra.cli_runs import Ran, dramac

APPROVER = "approver@example.com"


async def _asked(system: System, agent_id: AgentId) -> list[ApprovalRequested]:
    return [e.event for e in await system.history(agent_id) if isinstance(e.event, ApprovalRequested)]


async def _was_told(system: System, approval_id: str) -> bool:
    found = "SELECT FROM notify.emails WHERE approval_id = $1 AND told_at IS NOT NULL"
    made = await system.pool.fetchval("SELECT to_regclass('notify.emails') IS NOT NULL")
    return bool(made and await system.pool.fetch(found, approval_id))


async def _start_for_ann(system: System, site_id: SiteId, agent_id: AgentId) -> None:
    (any_event,) = (await system.history(agent_id))[:1]
    trigger = Trigger(type="manual", source="/ann", id=random_id(), time_ms=any_event.at_ms)
    command = StartExecution(trigger=trigger, requester=Requester(actor="user:ann", rights=("send_emails",)))
    await ask(system.log, site_id=site_id, agent_id=agent_id, user="ann", command=command)


@pytest.mark.timeout(120)
async def test_an_action_is_done_once_as_somebody_who_may_has_approved_it(system: System, tmp_path: Path) -> None:
    site_id = new_site()
    settings = {**system.environment, "DRAMAC_SITE": site_id, "DRAMAC_DATA_DIR": str(tmp_path)}

    async def cli(*arguments: str) -> Ran:
        return await asyncio.to_thread(partial(dramac, settings, "approvals", *arguments))

    governance = tmp_path / "governance.yaml"
    governance.write_text(f"sites: {{{site_id}: {{approvers: {{approver: [{APPROVER}], manager: [m@example.com]}}}}}}")
    worker = system.start_worker(DRAMAC_GOVERNANCE=str(governance))
    agent_id = await system.agent(site_id, config("writer", "manual", model="asks_first", allowed_tools=("email_*",)))
    await _start_for_ann(system, site_id, agent_id)

    async def waits() -> bool:
        return bool((await cli("list", "--json")).json)

    await until(waits, "the email waits for a person")
    (first,) = await _asked(system, agent_id)
    await until(lambda: _was_told(system, first.approval_id), "the approver was told of the first")
    own = await cli("approve", first.approval_id, "--as", "ann")
    assert (own.code, own.says_in_one_line("you asked for this run yourself")) == (REFUSED, True)
    edit = tmp_path / "edit.json"
    edit.write_bytes(orjson.dumps({**(first.arguments or {}), "to": ["b@example.com"]}))
    edited = await cli("approve", first.approval_id, "--as", "bob", "--edit", str(edit), "--note", "b, not a", "--json")
    assert edited.json["status"] == "replaced"
    second = edited.json["replaced_by"]
    assert (await cli("approve", second, "--as", "bob")).says_in_one_line("you changed what is asked for")
    shown = (await cli("show", second)).out
    assert "b@example.com" in shown
    assert "user:bob changed the arguments" in shown
    await until(lambda: _was_told(system, second), "the approver was told of the second")
    granted = await cli("approve", second, "--as", "cho")
    assert (granted.code, granted.out) == (0, f"{second}: approved\n")
    await kill(worker)

    async with system.working(DRAMAC_GOVERNANCE=str(governance)):

        async def completed() -> bool:
            return any(isinstance(e.event, ExecutionCompleted) for e in await system.history(agent_id))

        await until(completed, "the run completed after the restart")
        again = await cli("approve", second, "--as", "dee")
        assert (again.code, again.says_in_one_line(second, "was approved by user:cho already")) == (REFUSED, True)
    history = [envelope.event for envelope in await system.history(agent_id)]
    assert [e.reason for e in history if isinstance(e, CommandRejected)] == ["own_request", "own_request", "not_found"]
    assert sum(isinstance(e, ToolRequested) for e in history) == 1
    sent = await system.pool.fetch("SELECT recipients, body FROM sandbox.emails WHERE site_id = $1", site_id)
    told = [row["body"] for row in sent if row["recipients"] == [APPROVER]]
    assert sorted(recipient for row in sent for recipient in row["recipients"]) == [APPROVER, APPROVER, "b@example.com"]
    assert [sum(f"approvals show {each}" in body for body in told) for each in (first.approval_id, second)] == [1, 1]
    assert not any("@example.com" in body for body in told)  # nothing of the arguments
