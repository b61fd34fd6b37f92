"""Webhooks from the wire to finished runs: `dramac api` and a worker as processes, on a real Kafka and Postgres."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from infra.hooks.conditions import configs_in
from infra.hooks.signatures import Scheme, key_of, signed_headers
from schemas.envelope import EventEnvelope
from schemas.events import ExecutionStarted
from schemas.ids import AgentId, SiteId
from streams.topics import COMMANDS
from tests.acceptance.system import ROOT, System, config, kill, new_site, until
from tests.infra.cli_runs import Ran, dramac
from tests.signals import hear_ctrl_c

DATA = Path(__file__).parents[3] / "shared" / "data" / "github_webhooks.json"
KEYS = "test:" + base64.b64encode(b"k" * 32).decode()
PICKED = {"webhook": 'data.action == "created" && event.type != "ping"'}  # some payloads have no action
STOP_S = 10.0
READY_S = 30.0


def _payloads() -> list[tuple[str, bytes]]:
    """The events of GitHub with their types, as bytes that are signed and sent."""
    if not DATA.exists():
        pytest.skip(f"no real webhooks at {DATA}")
    return [(told["event"], json.dumps(told["payload"]).encode()) for told in json.loads(DATA.read_text())]


@dataclass
class Api:
    """`dramac api` as a process, and a client of it."""

    process: "subprocess.Popen[bytes]"
    log: Path
    client: httpx2.AsyncClient


def _start(system: System, path: Path) -> "subprocess.Popen[bytes]":
    with path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "api"],
            cwd=ROOT,
            env={
                **system.environment,
                "DRAMAC_SECRET_KEYS": KEYS,
                "DRAMAC_API_PORT": "0",
                "DRAMAC_LOG_LEVEL": "warning",
            },
            stdout=log,
            stderr=log,
            preexec_fn=hear_ctrl_c,
        )


@asynccontextmanager
async def serving(system: System, name: str) -> AsyncIterator[Api]:
    path = system.home / f"{name}.log"
    process = _start(system, path)
    try:

        async def started() -> bool:
            assert process.poll() is None, path.read_text()
            return "serving at http" in path.read_text()

        await until(started, "the API serves", READY_S)
        url = path.read_text().partition("serving at ")[2].split()[0]
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            yield Api(process, path, client)
    finally:
        if process.poll() is None:
            process.kill()
        await asyncio.to_thread(process.wait, STOP_S)


async def _run(system: System, site_id: SiteId, *arguments: str, stdin: bytes = b"", keys: str = KEYS) -> Ran:
    """Run `dramac hooks` in this process: one of its own takes seconds to start."""
    settings = {name: value for name, value in system.environment.items() if name.startswith("DRAMAC_")}
    settings |= {"DRAMAC_SITE": site_id, "DRAMAC_SECRET_KEYS": keys}
    return await asyncio.to_thread(dramac, settings, "hooks", *arguments, stdin=stdin)


async def _hooks(system: System, site_id: SiteId, *arguments: str, stdin: bytes = b"") -> Any:
    done = await _run(system, site_id, *arguments, "--json", stdin=stdin)
    assert done.code == 0, done.err
    return done.json


def _signed(hook: Any, body: bytes, delivery_id: str, event: str, at_s: float | None = None) -> dict[str, str]:
    scheme: Scheme = hook["scheme"]
    now_s = int(time.time() if at_s is None else at_s)
    key = key_of(scheme, hook["secret"])
    return {"content-type": "application/json", **signed_headers(scheme, key, delivery_id, now_s, body, event)}


async def _started(system: System, agent_id: AgentId) -> list[ExecutionStarted]:
    events: list[EventEnvelope] = await system.history(agent_id)
    return [envelope.event for envelope in events if isinstance(envelope.event, ExecutionStarted)]


@pytest.mark.slow
async def test_every_payload_of_github_arrives_once_whatever_is_sent_again_or_killed(system: System) -> None:
    payloads = _payloads()
    assert len(payloads) == 58
    picked = {f"picky-{n}" for n, (_, body) in enumerate(payloads) if json.loads(body).get("action") == "created"}
    assert len(picked) == 16
    site_id = new_site()
    agents: dict[str, AgentId] = {}
    hooks: dict[str, Any] = {}

    async def send_all(api: Api, name: str, part: slice = slice(None)) -> set[int]:
        statuses = set()
        for number, (event, body) in list(enumerate(payloads))[part]:
            headers = _signed(hooks[name], body, f"{name}-{number}", event)
            statuses.add((await api.client.post(hooks[name]["path"], content=body, headers=headers)).status_code)
        return statuses

    async with system.working():
        for name in ("github", "standard"):
            listening = config(f"by-{name}", "webhook", max_runs_per_hour=1_000, max_concurrent_runs=1_000)
            agents[name] = await system.agent(site_id, listening)
            hooks[name] = await _hooks(system, site_id, "create", f"by-{name}", "--scheme", name)
        agents["picky"] = await system.agent(site_id, config("picky", "webhook", trigger_conditions=PICKED))
        hooks["picky"] = await _hooks(system, site_id, "create", "picky", "--scheme", "github")
        async with serving(system, "first-api") as api:
            assert await send_all(api, "github", slice(40)) == {202}
            await kill(api.process)
        async with serving(system, "second-api") as api:
            assert await send_all(api, "github") == {200, 202}
            assert await send_all(api, "standard") == {202}
            assert await send_all(api, "standard") == {200}
            assert await send_all(api, "picky") == {202}
            await _refuses(api, {name: hooks[name] for name in ("github", "standard")}, payloads)

            async def all_completed() -> bool:
                query = """
                    SELECT count(*) FROM projections.ai_agent_executions WHERE site_id = $1 AND status = 'completed'
                """
                count: int = await system.pool.fetchval(query, site_id)
                return count >= 2 * len(payloads) + len(picked)

            await until(all_completed, "all runs completed")
    assert {run.trigger.id for run in await _started(system, agents.pop("picky"))} == picked
    for name, agent_id in agents.items():
        runs = {run.trigger.id: run.trigger for run in await _started(system, agent_id)}
        assert len(await _started(system, agent_id)) == len(payloads)
        for number, (event, body) in enumerate(payloads):
            trigger = runs[f"{name}-{number}"]
            assert (trigger.type, trigger.source) == ("webhook", hooks[name]["path"])
            assert trigger.data == json.loads(body)
            if name == "github":
                assert trigger.event_type == event
    await _is_nowhere(system, [hook["secret"] for hook in hooks.values()])


async def _refuses(api: Api, hooks: dict[str, Any], payloads: list[tuple[str, bytes]]) -> None:
    """What is forged, stale, or damaged on the way is refused, with the status that says so."""
    for event, body in payloads:
        for name, hook in hooks.items():
            other = hooks["github" if name == "standard" else "standard"]
            forged = _signed({**other, "scheme": hook["scheme"]}, body, "forged", event) if name == "github" else {}
            for headers, sent in (
                (forged or _signed(hook, body + b" ", "forged", event), body),
                (_signed(hook, body, "damaged", event), body[:-1] + b" "),
            ):
                answer = await api.client.post(hook["path"], content=sent, headers=headers)
                assert answer.status_code == 401
    event, body = payloads[0]
    for at_s in (time.time() - 310, time.time() + 310):
        headers = _signed(hooks["standard"], body, "standard-0", event, at_s)
        assert (await api.client.post(hooks["standard"]["path"], content=body, headers=headers)).status_code == 401


async def _is_nowhere(system: System, secrets: list[str]) -> None:
    """No secret is in a topic or a table in clear."""
    records = [*await system.records(), *await system.records(COMMANDS)]
    written = b"".join((record.value or b"") + repr(record.headers).encode() for record in records)
    for table in ("hooks.hooks", "hooks.secrets", "hooks.deliveries"):
        rows = await system.pool.fetch(f"SELECT t::text AS row FROM {table} AS t")
        written += "".join(row["row"] for row in rows).encode()
    for secret in secrets:
        assert secret.encode() not in written
        assert secret.encode().hex().encode() not in written
    for log in system.home.glob("*.log"):
        assert not [secret for secret in secrets if secret.encode() in log.read_bytes()]


async def test_a_hook_lives_as_its_owner_says(system: System) -> None:
    site_id, other_site = new_site(), new_site()
    async with system.working(), serving(system, "owners-api") as api:
        agent_id = await system.agent(site_id, config("owned", "webhook"))
        config_of = configs_in(system.pool)
        assert await config_of(site_id, agent_id) == config("owned", "webhook")
        assert await config_of(other_site, agent_id) is None
        made = await _hooks(system, site_id, "create", "owned", "--name", "the [shop]")
        hook_id, url = made["id"], str(api.client.base_url)

        async def send(delivery_id: str) -> Ran:
            arguments = ("send", hook_id[:13], "-", "--id", delivery_id, "--url", url, "--json")
            return await _run(system, site_id, *arguments, stdin=b'{"type": "a.b"}')

        sent = await send("one")
        assert (sent.code, sent.json["status"]) == (0, 202)
        assert (await send("one")).json["status"] == 200

        listed = await _run(system, site_id, "list", keys="")  # needs none
        assert "the [shop]" in listed.out
        assert made["secret"] not in listed.out
        assert "secret" not in (await _hooks(system, site_id, "list"))[0]
        assert await _hooks(system, other_site, "list") == []
        assert (await _run(system, other_site, "delete", hook_id)).code == 4

        rotated = await _hooks(system, site_id, "rotate", hook_id, "--grace", "0")
        assert rotated["secret"] != made["secret"]
        old = _signed(made, b"{}", "two", "x")
        assert (await api.client.post(made["path"], content=b"{}", headers=old)).status_code == 401
        assert (await send("two")).code == 0
        given = "whsec_" + base64.b64encode(b"g" * 32).decode()
        by_hand = await _hooks(system, site_id, "rotate", hook_id, "--secret-from", "-", stdin=f"{given}\n".encode())
        assert by_hand["secret"] is None
        new = _signed({**made, "secret": given}, b"{}", "three", "x")
        assert (await api.client.post(made["path"], content=b"{}", headers=new)).status_code == 202

        await _hooks(system, site_id, "disable", hook_id)
        refused = await send("four")
        assert (refused.code, refused.err) == (5, "error: 404: there is no such hook\n")
        await _hooks(system, site_id, "enable", hook_id)
        assert (await send("four")).code == 0
        await _hooks(system, site_id, "delete", hook_id)
        assert (await send("five")).code == 4
        nowhere = await _run(system, site_id, "create", "owned")
        assert "secret  whsec_" in nowhere.out
        arguments = ("send", nowhere.out.partition("/hooks/")[2][:36], "-", "--url", "http://127.0.0.1:1")
        unanswered = await _run(system, site_id, *arguments, stdin=b"{}")
        assert unanswered.code == 3
        assert unanswered.says_in_one_line("no API answers at http://127.0.0.1:1", "start `dramac api`")

        async def four_runs() -> bool:
            return len(await _started(system, agent_id)) == 4

        await until(four_runs, "four runs started")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_api_says_one_line_and_stops_in_good_order(system: System, number: signal.Signals) -> None:
    async with serving(system, f"stopped-{number.name}") as api:
        assert (await api.client.get("/health/live")).json() == {"status": "ok"}
        ready = await api.client.get("/health/ready")
        assert (ready.status_code, set(ready.json()["parts"])) == (200, {"kafka", "postgres"})
        assert len(api.log.read_text().splitlines()) == 1
        begun_s = time.monotonic()
        os.kill(api.process.pid, number)
        assert await asyncio.to_thread(api.process.wait, STOP_S) == 0
        assert time.monotonic() - begun_s < STOP_S
        assert api.log.read_text().splitlines()[1:] == ["stopping"]


async def test_an_api_without_keys_or_with_wrong_ones_says_what_to_set(system: System) -> None:
    for keys, said in (("", "write DRAMAC_SECRET_KEYS as"), ("k:x", "DRAMAC_SECRET_KEYS is wrong")):
        done = await system.cli("api", DRAMAC_API_PORT="0", DRAMAC_SECRET_KEYS=keys)
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1
        assert said.encode() in done.stderr
