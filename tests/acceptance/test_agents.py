"""An agent's life by the command line, on real servers: versions, rollback, deactivation, goals, deletion."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from infra.agent_files import write_agent
from infra.asking import ask
from infra.cli.common import REFUSED
from schemas.agents import AgentConfig
from schemas.commands import ResolveApproval
from schemas.events import ApprovalRequested
from schemas.ids import AgentId, SiteId
from schemas.message import Json
from streams.client import ModuleEventPublisher
from tests.acceptance.system import ROOT, System, config, new_site, until

EXAMPLES = sorted((ROOT / "examples" / "agents").glob("*.yaml"))


class Cli:
    """The command line of one site."""

    def __init__(self, system: System, site_id: SiteId) -> None:
        self._system = system
        self._site_id = site_id

    async def say(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        ran = await self._system.cli("agents", *arguments, DRAMAC_SITE=self._site_id, DRAMAC_USER="ann")
        assert ran.returncode == code, ran.stderr.decode()
        return ran.stdout.decode(), ran.stderr.decode()

    async def json(self, *arguments: str) -> Json:
        return orjson.loads((await self.say(*arguments, "--json"))[0])


def file(folder: Path, agent: AgentConfig) -> str:
    path = folder / f"{agent.slug}.yaml"
    path.write_text(write_agent(agent))
    return str(path)


@pytest.mark.slow
async def test_an_agent_is_changed_compared_and_rolled_back(system: System, tmp_path: Path) -> None:
    first = config("reader", description="One.", goals=[{"name": "Read"}])
    second = first.model_copy(update={"description": "Two.", "allowed_tools": ("crm_*",)})
    cli = Cli(system, new_site())
    async with system.working():
        assert (await cli.json("create", file(tmp_path, first)))[0]["created"] is True
        assert (await cli.json("create", file(tmp_path, first)))[0]["created"] is False
        _, told = await cli.say("create", file(tmp_path, second), code=REFUSED)
        assert "exists already: update it" in told
        assert (await cli.json("update", file(tmp_path, second), "--expected-version", "1"))["version"] == 2
        _, told = await cli.say("update", file(tmp_path, first), "--expected-version", "1", code=REFUSED)
        assert "at version 2, not 1" in told
        assert [c["field"] for c in await cli.json("diff", "reader", "1", "2")] == ["description", "allowed_tools[]"]
        out, _ = await cli.say("diff", "reader", "1", "2")
        assert "~ description: One. → Two." in out
        rolled = await cli.json("rollback", "reader", "1", "--reason", "Two was worse")
        assert (rolled["version"], rolled["rolled_back_to"]) == (3, 1)
        assert "are the same" in (await cli.say("diff", "reader", "1", "3"))[0]
        versions = await cli.json("versions", "reader")
        assert [(v["version"], v["changed_by"], v["rolled_back_to"], v["reason"]) for v in versions] == [
            (1, "user:ann", None, ""),
            (2, "user:ann", None, ""),
            (3, "user:ann", 1, "Two was worse"),
        ]
        assert (await cli.say("show", "reader", "--yaml"))[0] == write_agent(first)
        assert (await cli.say("show", "reader", "--version", "2", "--yaml"))[0] == write_agent(second)
        await cli.say("delete", "reader")
        assert len(await cli.json("versions", "reader")) == 3
        assert (await cli.say("show", "reader", "--version", "2", "--yaml"))[0] == write_agent(second)
        _, told = await cli.say("rollback", "reader", "2", code=REFUSED)
        assert "create it again" in told


async def test_runs_finish_or_are_cancelled_when_their_agent_is_deactivated(system: System) -> None:
    site_id = new_site()
    cli = Cli(system, site_id)
    async with system.working():
        asks: dict[str, Any] = {"model": "asks_first", "allowed_tools": ("email_*",)}
        ids = {
            slug: await system.agent(site_id, config(slug, "event:mail.due", **asks)) for slug in ("finishes", "stops")
        }
        async with ModuleEventPublisher(system.log) as publisher:
            await publisher.publish(type="mail.due", site_id=site_id, source="/t", id="1", data={"due": 1})

        async def all_wait() -> bool:
            return all([await _asked(system, agent_id) for agent_id in ids.values()])

        await until(all_wait, "both runs wait for a person")
        await cli.say("deactivate", "finishes")
        assert (await cli.json("deactivate", "stops", "--cancel-runs"))["cancelled"] == 1
        (asked,) = await _asked(system, ids["finishes"])
        answer = ResolveApproval(
            execution_id=asked.execution_id, approval_id=asked.approval_id, approved=True, roles=(asked.role,)
        )
        await ask(system.log, site_id=site_id, agent_id=ids["finishes"], user="bob", command=answer)

        async def completed() -> bool:
            return any(e.type == "ai.execution.completed" for e in await system.history(ids["finishes"]))

        await until(completed, "the run of the one that finishes")
        types = [e.type for e in await system.history(ids["stops"])]
        assert "ai.execution.cancelled" in types
        assert "ai.execution.completed" not in types


async def _asked(system: System, agent_id: AgentId) -> list[ApprovalRequested]:
    return [e.event for e in await system.history(agent_id) if isinstance(e.event, ApprovalRequested)]


async def test_goals_move_with_the_events_of_modules(system: System) -> None:
    site_id = new_site()
    cli = Cli(system, site_id)
    goals = [
        {"name": "Revenue", "event": "crm.deal.won", "progress": "data.amount", "target": 100, "priority": 9},
        {"name": "Deals", "event": "crm.deal.*", "period": "year"},
    ]
    async with system.working():
        agent_id = await system.agent(site_id, config("closer", goals=goals))
        async with ModuleEventPublisher(system.log) as publisher:
            for number, amount in enumerate((60, 50, 60)):
                id_ = "a" if amount == 60 else "b"  # the third is the first again
                told = {"amount": amount, "number": number}
                await publisher.publish(type="crm.deal.won", site_id=site_id, source="/crm", id=id_, data=told)

        async def moved() -> bool:
            found = [e for e in await system.history(agent_id) if e.type == "ai.goal.progressed"]
            return len(found) == 4

        await until(moved, "two goals moved twice")

        async def shown() -> bool:
            revenue, deals = await cli.json("goals", "closer")
            return (revenue["current_value"], revenue["is_achieved"], deals["current_value"]) == (110, True, 2)

        await until(shown, "the goals in the tables")
        assert "achieved" in (await cli.say("goals", "closer"))[0]
        assert "Revenue" in (await cli.say("show", "closer"))[0]


async def test_the_shipped_agents_are_created_at_once(system: System) -> None:
    cli = Cli(system, new_site())
    async with system.working():
        done = await cli.json("create", *map(str, EXAMPLES))
        assert [(each["slug"], each["created"]) for each in done] == [(path.stem, True) for path in EXAMPLES]
        out, _ = await cli.say("list")
        assert all(path.stem in out for path in EXAMPLES)
