"""From `module.events` to `ai.commands`: each event to every agent that listens for it, at least once.

Sending twice is harmless: an agent's stream remembers what it was told. The group's committed offset is where
reading goes on, and moves only after every command of a batch is acknowledged.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from processors.signals.observations import observations
from processors.telling import send_until_acknowledged
from processors.triggers.directory import Directory, ends_of
from processors.triggers.goals import goal_drafts
from processors.triggers.module_events import read_module_event
from schemas.commands import StartExecution
from schemas.errors import AppendError, DecodeError, UnavailableError
from schemas.ids import AgentId, CommandId, SiteId, timed_id
from schemas.module_events import SIGNAL_RAISED, Trigger
from streams.dead_letters import send_dead_letter
from streams.log import Draft, Log, Member, Reader, Record
from streams.records import Asked, encode_command
from streams.topics import EVENTS, OBSERVATIONS, is_genesis

logger = logging.getLogger(__name__)

GROUP = "dramac-router"
BATCH_EVENTS = 500
IDLE_S = 0.5
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
KEPT_LIMIT_BYTES = 224 * 1024  # of a command, whose trigger then stands in an event of 256 KiB beside more


class Router:
    """Routes the events of one topic of the platform's modules."""

    def __init__(self, log: Log, topic: str, now_ms: Callable[[], int]) -> None:
        """Route nothing yet."""
        self._log = log
        self._topic = topic
        self._now_ms = now_ms
        self._held: set[int] = set()
        self._unsought: set[int] = set()
        self._changed = asyncio.Event()
        self._observed: list[Draft] = []  # what guardians' rules have to count of the batch in hand
        self.routed = 0
        self.unmatched = 0
        self.unmet = 0
        self.dead_letters = 0

    async def run(self) -> None:
        """Route until cancelled; what fails for a while is tried again from the committed offsets.

        Raises:
            LogTruncatedError: `ai.events` is no longer whole: a person must look.
        """
        retry_s = FIRST_RETRY_S
        while True:
            begun_s = asyncio.get_running_loop().time()
            try:
                await self._run()
            except (UnavailableError, AppendError) as error:
                if asyncio.get_running_loop().time() - begun_s > LAST_RETRY_S:
                    retry_s = FIRST_RETRY_S
                logger.warning("the router of %r starts anew: %s", self._topic, error)
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def _run(self) -> None:
        self._held, self._unsought, self._observed = set(), set(), []
        directory = Directory.empty(await self._log.partitions(EVENTS))
        async with self._log.reader(EVENTS, directory.positions) as tail:
            await directory.read_to(tail, await ends_of(self._log))
            async with self._log.member(self._topic, f"{GROUP}-{self._topic}", self._rebalanced) as member:
                while True:
                    await self._round(member, directory, tail)

    async def _rebalanced(self, revoked: frozenset[int], assigned: frozenset[int]) -> None:
        self._held = (self._held - revoked) | assigned
        self._unsought |= assigned
        self._changed.set()

    async def _round(self, member: Member, directory: Directory, tail: Reader) -> None:
        if not self._held:
            self._changed.clear()
            await self._changed.wait()
        for partition in sorted(self._unsought & self._held):
            committed = await member.committed(partition)
            start = (await self._log.bounds(self._topic, partition)).start
            start = start if committed is None else max(committed, start)
            await self._begin(partition, start)
            member.seek(partition, start)
            self._unsought.discard(partition)  # this one alone: others may have been assigned meanwhile
        records = await member.poll_any(max_records=BATCH_EVENTS, timeout_s=IDLE_S)
        if not records:
            return
        # Whoever was activated before one of these events was published stands before this end.
        await directory.read_to(tail, await ends_of(self._log))
        drafts = await self._drafts(records, directory)
        seen, self._observed = self._observed, []
        await asyncio.gather(
            *(send_until_acknowledged(self._log, draft) for draft in drafts),
            *(send_until_acknowledged(self._log, draft, topic=OBSERVATIONS) for draft in seen),
        )
        await member.commit({record.partition: record.offset + 1 for record in records})

    async def _begin(self, partition: int, offset: int) -> None:
        """Prepare to read a partition from an offset on."""

    async def _drafts(self, records: Sequence[Record], directory: Directory) -> list[Draft]:
        drafts: list[Draft] = []
        for record in records:
            if is_genesis(record):
                continue
            try:
                site_id, correlation_id, trigger = read_module_event(record, self._now_ms())
                if trigger.event_type == SIGNAL_RAISED:
                    woken = directory.guardian(site_id, trigger)
                else:
                    woken = directory.listening(site_id, trigger)
                seen = observations(site_id, correlation_id, trigger, directory.rules.in_force(site_id))
                found = [start_command(site_id, agent_id, correlation_id, trigger) for agent_id in woken]
                found += goal_drafts(directory.measuring(site_id), site_id, correlation_id, trigger)
            except (DecodeError, ValueError) as error:  # also what pydantic says of what it can't take or write
                self.dead_letters += 1
                await send_dead_letter(self._log, record, str(error))
                continue
            self._observed += seen
            drafts += found
            self.routed += len(woken)
            self.unmatched += not woken
        self.unmet, directory.unmet = self.unmet + directory.unmet, 0
        return drafts


def start_command(
    site_id: SiteId, agent_id: AgentId, correlation_id: str, trigger: Trigger, actor: str | None = None
) -> Draft:
    """Return the command that asks an agent to start a run for `trigger`; `actor` is its module by default.

    Raises:
        DecodeError: as it is kept, with its numbers written out, it is too large for an agent's stream.
    """
    command_id = CommandId(timed_id(trigger.time_ms, "start", agent_id, trigger.source, trigger.id))
    actor, command = actor or f"module:{trigger.source}"[:200], StartExecution(trigger=trigger)
    draft = encode_command(Asked(command_id, site_id, agent_id, actor, correlation_id, command, source="/router"))
    if (size := len(draft.value or b"")) > KEPT_LIMIT_BYTES:
        raise DecodeError(
            f"an event that wakes agents may have {KEPT_LIMIT_BYTES} bytes as it is kept, this has {size}"
        )
    return draft
