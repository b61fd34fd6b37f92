"""Hooks served on loopback, with senders that sign."""

import time
from dataclasses import dataclass, field

import httpx2

from infra.hooks.intake import Intake
from infra.hooks.signatures import Scheme, key_of, new_secret, signed_headers
from infra.hooks.store import Hook, HookStore
from infra.secrets import Sealer, parse_keys
from schemas.commands import StartExecution
from schemas.envelope import CommandEnvelope
from schemas.ids import SiteId, agent_id_of, random_id
from schemas.module_events import Trigger
from streams.memory_log import MemoryLog
from streams.records import decode_command
from streams.topics import COMMANDS, is_genesis

SEALER = parse_keys("k2:" + "Ag" * 21 + "A=,k1:" + "AQ" * 21 + "A=")
BODY = b'{"type": "invoice.paid", "data": {"amount": 12}}'


@dataclass
class Place:
    """Hooks served on loopback, with a log in memory, and a clock that can be set."""

    client: httpx2.AsyncClient
    store: HookStore
    log: MemoryLog
    intake: Intake
    site_id: SiteId = field(default_factory=lambda: SiteId(random_id()))
    ahead_s: float = 0.0
    secrets: dict[str, str] = field(default_factory=dict)

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    async def hook(self, scheme: Scheme = "standard", per_minute: int = 600, sealer: Sealer = SEALER) -> Hook:
        secret = new_secret(scheme)
        hook = await self.store.create(
            sealer,
            secret,
            site_id=self.site_id,
            agent_id=agent_id_of(self.site_id, "sdr"),
            agent_slug="sdr",
            name="from the shop",
            scheme=scheme,
            per_minute=per_minute,
            user="ada",
        )
        self.secrets[hook.id] = secret
        return hook

    def signed(
        self, hook: Hook, body: bytes = BODY, delivery_id: str = "msg_1", event: str | None = None
    ) -> dict[str, str]:
        key = key_of(hook.scheme, self.secrets[hook.id])
        headers = signed_headers(hook.scheme, key, delivery_id, int(self.now_s()), body, event)
        return {"content-type": "application/json", **headers}

    async def deliver(
        self, hook: Hook, body: bytes = BODY, delivery_id: str = "msg_1", changed: dict[str, str | None] | None = None
    ) -> httpx2.Response:
        """Send a delivery; `changed` are headers that replace what was signed; None drops one."""
        given = {**self.signed(hook, body, delivery_id), **(changed or {})}
        headers = {name: value for name, value in given.items() if value is not None}
        return await self.client.post(hook.path, content=body, headers=headers)

    def asked(self) -> list[CommandEnvelope]:
        return [decode_command(record) for record in self.log.records(COMMANDS) if not is_genesis(record)]

    def triggers(self) -> list[Trigger]:
        found = []
        for envelope in self.asked():
            assert isinstance(envelope.command, StartExecution)
            found.append(envelope.command.trigger)
        return found


def problem(answer: httpx2.Response, status: int, word: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["type"] == f"urn:dramac:problem:{word}"
    return str(answer.json()["detail"])
