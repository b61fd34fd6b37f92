"""From a signed delivery to a command: verified, counted, remembered, and on the log before its sender is told so.

A sender that hears nothing sends again, under the same id. So what was received first is remembered in Postgres, and
every copy asks for the same run: the same trigger, of the same time. The agent's stream remembers it too.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Literal

from infra.hooks.conditions import Conditions
from infra.hooks.payload import event_type_of, read_payload
from infra.hooks.refusals import HookGoneError, OtherPayloadError, TooManyDeliveriesError
from infra.hooks.signatures import Claims, key_of, verify
from infra.hooks.store import Hook, HookStore
from infra.secrets import Sealer
from processors.triggers.module_events import TRIGGER_LIMIT_BYTES
from schemas.commands import StartExecution
from schemas.errors import AppendError, RecordTooLargeError, UnavailableError
from schemas.ids import CommandId, timed_id
from schemas.message import Json
from schemas.module_events import Trigger
from streams.log import Draft, Log
from streams.records import Asked, encode_command
from streams.topics import COMMANDS

SEND_S = 5.0  # senders usually wait for 10 s or more; then they try again

Status = Literal["accepted", "duplicate", "filtered"]


class Intake:
    """Takes the deliveries of all hooks. `counts` are those since the process began, by what became of them."""

    def __init__(
        self,
        store: HookStore,
        sealer: Sealer,
        log: Log,
        *,
        conditions: Conditions | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._sealer = sealer
        self._log = log
        self._conditions = conditions
        self._now_s = now_s
        self.counts: dict[Status, int] = {"accepted": 0, "duplicate": 0, "filtered": 0}

    async def take(self, hook: Hook, claims: Claims, body: bytes) -> Status:
        """Have a delivery's command on the log, once it is seen that a secret of the hook signed it.

        Raises:
            BadSignatureError: none did, or at another time; nothing of the body was looked at.
            TooManyDeliveriesError: the hook's rate is used up; nothing was counted or kept.
            WrongPayloadError: the body is not what agents are given.
            RecordTooLargeError: it is too large for the log.
            OtherPayloadError: the id belongs to another body.
            HookGoneError: the hook was deleted meanwhile.
            UnavailableError: Kafka or Postgres does not answer; the same delivery may be sent again.
        """
        secrets = await self.store.secrets(self._sealer, hook)
        verify(claims, body, {str(n): key_of(hook.scheme, secret) for n, secret in enumerate(secrets)}, self._now_s())
        if wait_s := await self.store.wait_s(hook):
            raise TooManyDeliveriesError(wait_s)
        trigger = self._trigger(hook, claims, read_payload(body))
        _command(hook, trigger)  # it is not too large
        body_sha256 = hashlib.sha256(body).digest()
        claim = await self.store.claim(hook, claims.id, body_sha256, trigger.time_ms)
        if claim is None:
            raise HookGoneError(f"the hook {hook.id} was deleted")
        if claim.body_sha256 != body_sha256:
            raise OtherPayloadError(f"the id {claims.id!r} was used for another body: give each event an id of its own")
        status: Status = "duplicate"
        if not claim.is_taken:
            status = await self._pass_on(hook, trigger.model_copy(update={"time_ms": claim.time_ms}))
            await self.store.taken(hook, claims.id)
        self.counts[status] += 1
        return status

    def _trigger(self, hook: Hook, claims: Claims, payload: Json) -> Trigger:
        time_s = self._now_s() if claims.timestamp_s is None else claims.timestamp_s
        return Trigger(
            type="webhook",
            source=hook.path,
            id=claims.id,
            event_type=event_type_of(payload) if claims.event_type is None else claims.event_type,
            time_ms=max(0, int(time_s * 1000)),
            data=payload,
        )

    async def _pass_on(self, hook: Hook, trigger: Trigger) -> Status:
        if self._conditions is not None:
            config = await self._conditions.config_of(hook.site_id, hook.agent_id)
            if config is not None and not self._conditions.holds(config, trigger):
                return "filtered"
        try:
            async with asyncio.timeout(SEND_S):
                await self._log.send(COMMANDS, _command(hook, trigger))
        except (AppendError, TimeoutError) as error:
            raise UnavailableError(f"Kafka did not acknowledge a delivery within {SEND_S:g} s") from error
        return "accepted"


def _command(hook: Hook, trigger: Trigger) -> Draft:
    """Return the record that asks the hook's agent for a run: the same for the same trigger.

    Raises:
        RecordTooLargeError: it is larger than an agent's stream takes.
    """
    command_id = CommandId(timed_id(trigger.time_ms, "start", hook.agent_id, trigger.source, trigger.id))
    asked = Asked(
        command_id,
        hook.site_id,
        hook.agent_id,
        f"hook:{hook.id}",
        trigger.id,
        StartExecution(trigger=trigger),
        source="/hooks",
    )
    draft = encode_command(asked)
    size = len(draft.value or b"")
    if size > TRIGGER_LIMIT_BYTES:
        raise RecordTooLargeError(f"a delivery may have {TRIGGER_LIMIT_BYTES} bytes as it is kept, this one has {size}")
    return draft
