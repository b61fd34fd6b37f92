"""Runs what a partition's runs wait for, and tells the log what came of it.

A task counts as running until its effect is no longer awaited, also after its result was sent: nothing is begun
twice because an answer is slow to come back through the log.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from processors.agents.state import Agent
from processors.executions import delegation
from processors.executions.prompt import messages_of
from processors.executions.state import Run
from processors.models.call import Attempt, call_model, fallbacks_of, without_usage
from processors.models.port import ModelRequest
from processors.runtime.awaiting import (
    AskToStart,
    AssembleContext,
    CallModel,
    CallTool,
    CallToolOnce,
    CancelChild,
    Effect,
    StartChild,
    TellDelegator,
    Timer,
)
from processors.runtime.process import Process
from processors.runtime.replies import attempt_of, given_up, model_failure, storable, thought_of
from processors.runtime.work import Alarm, Handle, Work
from processors.telling import FIRST_RETRY_S, LAST_RETRY_S, send_until_acknowledged
from processors.tools.port import ToolRequest
from schemas.commands import (
    ERROR_CHARS,
    AnyCommand,
    CancelDelegation,
    DoubtTool,
    EndWait,
    ExpireApproval,
    RecordContext,
    RecordToolResult,
    ReportDelegation,
    RunCommand,
    StartExecution,
    StartTool,
    TimeOutExecution,
)
from schemas.errors import DramacError, ModelError, UnavailableError
from schemas.ids import AgentId, CallId, CommandId, ExecutionId, random_id
from streams.records import Asked, encode_command

logger = logging.getLogger(__name__)

ACTOR = "system:worker"
CATALOGUE_LIMIT_BYTES = 192 * 1024  # three quarters of a command: memories and what woke the run stand beside it


class Effects:
    """The effects under way for one partition."""

    def __init__(self, process: Process, partition: int, holds: Callable[[], bool]) -> None:
        """Start nothing yet. `holds` says whether this process still holds the partition."""
        self._process = process
        self._partition = partition
        self._holds = holds
        self._running: dict[ExecutionId, dict[Effect, Handle]] = {}

    def reconcile(self, agent: Agent, run_id: ExecutionId, run: Run | None, wanted: tuple[Effect, ...]) -> None:
        """Start what is `wanted` and missing; cancel what is no longer wanted."""
        running = self._running.get(run_id)
        if running is None:
            if not wanted or run is None:
                return
            running = self._running[run_id] = {}
        for effect in [effect for effect in running if effect not in wanted]:
            running.pop(effect).cancel()
            if isinstance(effect, CallToolOnce):
                self._settled(effect.call_id)
        if run is not None:
            for effect in wanted:
                if effect not in running:
                    running[effect] = self._start(agent, run, effect)
                elif run.reserved and isinstance(work := running[effect], Work):
                    work.notice(run.reserved)
        if not running:
            del self._running[run_id]

    def drop(self) -> None:
        """Cancel everything but calls that were begun and can't be repeated: those tell their result."""
        for run_id in list(self._running):
            self.forget(run_id)

    def forget(self, run_id: ExecutionId) -> None:
        """Cancel what is under way for a run, but for what was begun and can't be repeated."""
        for handle in self._running.pop(run_id, {}).values():
            handle.cancel()

    def runs(self) -> Collection[ExecutionId]:
        """Return the runs for which something is under way."""
        return tuple(self._running)

    def __len__(self) -> int:
        return sum(len(running) for running in self._running.values())

    def _start(self, agent: Agent, run: Run, effect: Effect) -> Handle:
        match effect:
            case CallModel():
                work = Work(run.reserved)
                work.task = self._task(self._call_model(agent, run, self._model_request(agent, run), work))
                return work
            case CallTool(call_id=call_id):
                work = Work()
                work.task = self._task(self._call_when_held(run, self._tool_request(run, call_id), work))
                return work
            case AssembleContext():
                return self._task(self._assemble(agent, run))
            case AskToStart(call_id=call_id):
                asked = StartTool(execution_id=run.id, call_id=call_id, runner=self._process.runner)
                return self._task(self._tell(run, asked))
            case CallToolOnce():
                return self._start_once(run, effect)
            case Timer():
                return self._arm(run, effect)
            case StartChild(call_id=call_id):
                trigger = delegation.trigger_of(run, run.calls[call_id])
                start = StartExecution(trigger=trigger, requester=run.requester)
                return self._task(self._tell_child(run, call_id, start))
            case CancelChild(call_id=call_id):
                said = f"the run {run.id} that delegated it has ended: {run.status}"
                trigger = delegation.trigger_of(run, run.calls[call_id])
                return self._task(self._tell_child(run, call_id, CancelDelegation(trigger=trigger, reason=said)))
            case TellDelegator():
                return self._task(self._tell_delegator(run))

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    # --- context, model, tools --------------------------------------------------------------------------------------

    async def _assemble(self, agent: Agent, run: Run) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            await self._until_held()
            try:
                context = await self._process.context.assemble(run, agent.configs[run.agent_version])
                break
            except UnavailableError as error:
                logger.warning("context is not to be had: %s", error, extra={"execution_id": run.id})
            except Exception:
                logger.exception("a context port failed", extra={"execution_id": run.id})
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)
        sha256 = context.catalogue.sha256
        body = None if sha256 in agent.catalogues else context.catalogue
        if body is not None and (size := len(body.encode())) > CATALOGUE_LIMIT_BYTES:
            # Told without its body, it fails the run at once; a command that nobody can read would leave it to wait.
            what = "the tools of agent %r have %d bytes, %d are allowed: let it use fewer, or describe them shorter"
            logger.error(what, agent.config.slug, size, CATALOGUE_LIMIT_BYTES, extra={"execution_id": run.id})
            body = None
        await self._tell(
            run,
            RecordContext(
                execution_id=run.id,
                memories=context.memories,
                entity=context.entity,
                catalogue_sha256=sha256,
                catalogue=body,
                site=None if context.site is agent.site or context.site == agent.site else context.site,
            ),
        )

    def _model_request(self, agent: Agent, run: Run) -> ModelRequest:
        config = agent.configs[run.agent_version]
        return ModelRequest(
            site_id=run.site_id,
            agent_id=run.agent_id,
            execution_id=run.id,
            step=run.step,
            provider=config.llm_provider,
            model=config.llm_model,
            messages=messages_of(config, run),
            tools=() if run.final else run.tools,
            temperature=config.temperature,
            max_tokens=config.max_tokens,
        )

    async def _call_model(self, agent: Agent, run: Run, request: ModelRequest, work: Work) -> None:
        async def tell(attempt: Attempt) -> None:
            further = work.reserved + 1
            await asyncio.shield(self._told_alone(run, attempt_of(request, attempt)))
            if is_capped and attempt.usage is not None and not work.tells:
                await work.until_reserved(further)  # what was reserved is spent: the next try needs as much again

        is_capped = run.id in agent.held
        await self._until_held()
        others = fallbacks_of(agent.configs[run.agent_version])
        try:
            reply = await call_model(self._process.models, request, fallbacks=others, tell=tell)
        except ModelError as error:
            await self._tell_result(run, given_up(request, error), work)
            return
        except Exception:
            logger.exception("a model adapter failed", extra={"execution_id": run.id, "step": request.step})
            await self._tell_result(run, model_failure(request, "internal", "the adapter failed", None), work)
            return
        thought = thought_of(request, reply)
        encoded, fault = storable(thought)
        if fault is None:
            await self._tell_result(run, thought, work, encoded)
        else:
            await self._tell_result(run, model_failure(request, *fault, reply), work)
        if not reply.settled:
            await tell(without_usage(reply))

    def _tool_request(self, run: Run, call_id: CallId) -> ToolRequest:
        call = run.calls[call_id]
        tool = run.catalogue.tool(call.tool)
        if tool is None:
            raise DramacError(f"the tool {call.tool!r} is not in the catalogue of its run")
        return ToolRequest(
            call_id=call.id,
            tool=tool,
            arguments=call.arguments,
            site_id=run.site_id,
            agent_id=run.agent_id,
            execution_id=run.id,
            correlation_id=run.correlation_id,
            depth=run.trigger.depth,
        )

    async def _call_when_held(self, run: Run, request: ToolRequest, work: Work) -> None:
        await self._until_held()
        await self._call_tool(run, request, work)

    async def _call_once_when_held(self, run: Run, request: ToolRequest) -> None:
        """Begin the call in a task of its own, which nothing cancels; until then it may be begun elsewhere."""
        await self._until_held()
        if request.call_id not in self._process.begun:
            self._process.begun[request.call_id] = self._task(self._call_tool(run, request, Work()))

    def _settled(self, call_id: CallId) -> None:
        """Forget a call when it has ended: the log says by now that it must not be begun again."""
        if (begun := self._process.begun.get(call_id)) is not None:
            begun.add_done_callback(lambda _: self._process.begun.pop(call_id, None))

    async def _call_tool(self, run: Run, request: ToolRequest, work: Work) -> None:
        begun_s = time.perf_counter()
        try:
            result = await self._process.tools.call(request)
            output, error = result.output, result.error
            full_bytes, full_sha256 = result.full_bytes, result.full_sha256
        except Exception:
            logger.exception("a tool port failed", extra={"execution_id": run.id, "call_id": request.call_id})
            output, error, full_bytes, full_sha256 = None, "the tool failed for an internal reason", None, None
        await self._tell_result(
            run,
            RecordToolResult(
                execution_id=run.id,
                call_id=request.call_id,
                output=output,
                error=None if error is None else error[:ERROR_CHARS],
                full_bytes=full_bytes,
                full_sha256=full_sha256,
                duration_ms=int((time.perf_counter() - begun_s) * 1000),
            ),
            work,
        )

    def _start_once(self, run: Run, effect: CallToolOnce) -> asyncio.Task[None]:
        if effect.runner != self._process.runner:
            doubt = DoubtTool(execution_id=run.id, call_id=effect.call_id, runner=effect.runner)
            return self._task(self._tell(run, doubt))
        return self._task(self._call_once_when_held(run, self._tool_request(run, effect.call_id)))

    # --- delegation -------------------------------------------------------------------------------------------------

    async def _tell_child(self, run: Run, call_id: CallId, command: StartExecution | CancelDelegation) -> None:
        child = run.calls[call_id].child
        if child is None:
            raise DramacError(f"the call {call_id!r} is for no agent")
        await self._until_held()
        await self._tell_other(run, child, command)

    async def _tell_delegator(self, run: Run) -> None:
        """Tell the run that waits for this one, and then the log that it was told."""
        delegator = run.trigger.delegator
        if delegator is None:
            raise DramacError(f"the run {run.id!r} works for no other")
        await self._until_held()
        await self._tell_other(run, delegator.agent_id, delegation.result_for_delegator(run, delegator))
        await self._tell(run, ReportDelegation(execution_id=run.id))

    async def _tell_other(self, run: Run, agent_id: AgentId, command: AnyCommand) -> None:
        """Send a command to another agent's stream, wherever it lies."""
        actor = f"agent:{run.agent_id}"
        asked = Asked(CommandId(random_id()), run.site_id, agent_id, actor, run.correlation_id, command)
        await send_until_acknowledged(self._process.log, encode_command(asked))

    # --- timers -----------------------------------------------------------------------------------------------------

    def _arm(self, run: Run, timer: Timer) -> Alarm:
        def left_s() -> float:
            return (timer.due_ms - self._process.now_ms()) / 1000

        return Alarm(left_s, lambda: self._task(self._ring(run, timer)))

    async def _ring(self, run: Run, timer: Timer) -> None:
        retry_s = FIRST_RETRY_S
        while True:  # again until no longer awaited: the log's clock may be behind ours
            await self._until_held()
            if timer.kind == "timeout":
                await self._tell(run, TimeOutExecution(execution_id=run.id))
            elif timer.call_id is not None:
                await self._tell(run, EndWait(execution_id=run.id, call_id=timer.call_id))
            elif timer.approval_id is not None:
                await self._tell(run, ExpireApproval(execution_id=run.id, approval_id=timer.approval_id))
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    # --- telling ----------------------------------------------------------------------------------------------------

    async def _until_held(self) -> None:
        """Wait while the partition is elsewhere: that saves calls; what counts does not depend on it."""
        while not self._holds():  # noqa: ASYNC110 - who holds it is the group's to say, and it tells by polling
            await asyncio.sleep(FIRST_RETRY_S)

    async def _tell_result(self, run: Run, command: RunCommand, work: Work, encoded: bytes | None = None) -> None:
        """Tell what was paid for or done: from here on nothing cancels it."""
        work.tells = True
        if (task := work.task or asyncio.current_task()) is None:
            raise RuntimeError("a result is told by a task")
        self._process.telling.add(task)
        try:
            await self._tell(run, command, encoded)
        finally:
            self._process.telling.discard(task)

    def _told_alone(self, run: Run, command: RunCommand) -> asyncio.Task[None]:
        """Return a task of its own that tells what was paid for, while its caller may yet be cancelled."""
        work = Work()
        work.task = self._task(self._tell_result(run, command, work))
        return work.task

    async def _tell(self, run: Run, command: RunCommand, encoded: bytes | None = None) -> None:
        """Send a command until it is acknowledged; so it may stand in the log twice."""
        id_ = CommandId(random_id())
        asked = Asked(id_, run.site_id, run.agent_id, ACTOR, run.correlation_id, command)
        await send_until_acknowledged(self._process.log, encode_command(asked, encoded), self._partition)
