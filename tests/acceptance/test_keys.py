"""No provider's key appears anywhere: after a run of everything, all that was written is searched for them."""

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.events import ExecutionCompleted, StepAttemptFailed, StepModelFailed, StepThought
from streams.client import ModuleEventPublisher
from streams.topics import AI_TOPICS, MODULE_EVENTS
from tests.acceptance.system import System, config, new_site, stop, until
from tests.fake_provider import FakeProvider, Say, Served, write
from tests.infra.cli_runs import dramac

SITES = "sk-site-7hT3qLmVx0WcZr9KpB2nYdEa"
PLATFORMS = "plt.Qw8RtY2uIoP5aS.dF6gHjKl"  # no form that a provider is known for
MASTER = base64.b64encode(bytes(range(32))).decode()

TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


@dataclass
class Echoing(FakeProvider):
    """Answers the first question of each model with an error that repeats the key, as some providers do."""

    async def _respond(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any], key: str) -> bool:
        if body.get("model") not in {served.model for served in self.served}:
            error = {"error": {"message": f"overloaded, your key is {key}", "type": "server_error", "code": key}}
            self.served.append(Served(path, str(body.get("model")), "server_error", None, None, body, key))
            await write(writer, 500, json.dumps(error).encode())
            return True
        if body.get("model") == "barred":
            error = {"error": {"message": f"Incorrect API key provided: {key}.", "code": "invalid_api_key"}}
            self.served.append(Served(path, str(body.get("model")), "server_error", None, None, body, key))
            await write(writer, 401, json.dumps(error).encode())
            return True
        return await super()._respond(writer, path, body, key)


def forms(secret: str) -> Iterator[bytes]:
    """How a secret may be written: as it is, in hex as Postgres shows bytes, in base64 at any offset, in part."""
    raw = secret.encode()
    yield from (raw, raw.hex().encode(), secret[-16:].encode())
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        yield encoded[4 * bool(offset) + 4 : len(encoded) // 4 * 4 - 4]


@pytest.mark.slow
async def test_no_key_appears_in_any_topic_table_or_log_line(system: System) -> None:
    site_id = new_site()
    async with Echoing(say=lambda body: Say(text="Hello.")).running() as fake:
        address = f"{fake.address}/v1"
        settings = {
            "DRAMAC_SITE": site_id,
            "DRAMAC_SECRET_KEYS": f"m1:{MASTER}",
            "DRAMAC_PROVIDER_ENDPOINTS": json.dumps([fake.address]),
            "DRAMAC_PROVIDERS": json.dumps({"platform": {"api": "openai", "key": PLATFORMS, "url": address}}),
            "DRAMAC_LOG_LEVEL": "debug",
            "DRAMAC_DEBUG": "1",
        }
        said = []
        given = ("providers", "set", "ours", "--api", "openai", "--url", address, "--key-from", "-")
        for arguments, stdin in (
            (given, SITES.encode()),
            (("providers", "list"), b""),
            (("providers", "test", "ours", "--model", "small"), b""),  # fails: the provider repeats the key
            (("providers", "test", "ours", "--model", "small"), b""),
        ):
            done = await asyncio.to_thread(dramac, {**system.environment, **settings}, *arguments, stdin=stdin)
            said.append((done.out + done.err).encode())
        assert b"sealed with m1" in said[1]
        assert b"error" in said[2]
        assert b"ours answers" in said[3]

        worker = system.start_worker(**settings)
        try:
            agents = [
                await system.agent(site_id, config(slug, "event:lead.*", llm_provider=provider, llm_model=model))
                for slug, provider, model in (
                    ("own", "ours", "large"),
                    ("shared", "platform", "medium"),
                    ("barred", "ours", "barred"),
                )
            ]
            async with ModuleEventPublisher(system.log) as publisher:
                await publisher.publish(type="lead.came", site_id=site_id, source="/leads", data={"id": "1"})

            async def ended() -> bool:
                events = [envelope.event for agent in agents for envelope in await system.history(agent)]
                return (
                    sum(isinstance(event, ExecutionCompleted) for event in events) == 2
                    and sum(isinstance(event, StepModelFailed) for event in events) == 1
                )

            await until(ended, "all runs ended")
        finally:
            await stop(worker)

    assert {served.key for served in fake.served} == {SITES, PLATFORMS}
    own = [envelope.event for envelope in await system.history(agents[0])]
    assert [type(event) for event in own if isinstance(event, StepAttemptFailed | StepThought)] == [
        StepAttemptFailed,
        StepThought,
    ]
    written = {
        "what the commands said": b"".join(said),
        "log lines": b"".join(path.read_bytes() for path in system.home.glob("worker-*.log")),
        "topics": await _topics(system),
        "tables": await _tables(system),
    }
    for place, raw in written.items():
        assert len(raw) > 100, f"nothing was found in {place}: is it searched at all?"
        for name, secret in (("site's key", SITES), ("platform's key", PLATFORMS), ("master key", MASTER)):
            assert not any(form in raw for form in forms(secret)), f"the {name} stands in the {place}"
    assert b"ours" in written["tables"]
    assert b"your key is" in written["topics"]  # the provider's words, without the key


async def _topics(system: System) -> bytes:
    found = []
    for topic in (MODULE_EVENTS, *(each.name for each in AI_TOPICS)):
        for record in await system.records(topic):
            found += [record.key or b"", record.value or b"", *(value for _, value in record.headers)]
    return b"\n".join(found)


async def _tables(system: System) -> bytes:
    found = []
    for (table,) in await system.pool.fetch(TABLES):
        found += [row[0].encode() for row in await system.pool.fetch(f"SELECT t::text FROM {table} AS t")]
    return b"\n".join(found)
