"""What a run waits for, as a function of its state alone.

The owner of a partition compares this with the tasks it runs: it starts what is missing and cancels what is no
longer awaited. After a restart the same state gives the same answer. Effects are named tuples, made and compared for
every command; `effect` keeps those with the same fields apart.
"""

from typing import Literal, NamedTuple

from processors.executions.state import Run
from schemas.ids import ApprovalId, CallId, ExecutionId


class AssembleContext(NamedTuple):
    """Look up what the run should know."""

    execution_id: ExecutionId
    effect: Literal["context"] = "context"


class CallModel(NamedTuple):
    """Ask the model for a step's thought."""

    execution_id: ExecutionId
    step: int
    effect: Literal["model"] = "model"


class CallTool(NamedTuple):
    """Make a call that may be repeated: the other side honours its idempotency key."""

    execution_id: ExecutionId
    call_id: CallId
    effect: Literal["tool"] = "tool"


class AskToStart(NamedTuple):
    """Ask for the right to make a call that can't be repeated."""

    execution_id: ExecutionId
    call_id: CallId
    effect: Literal["start"] = "start"


class CallToolOnce(NamedTuple):
    """Make a call that can't be repeated, if `runner` is this process; else say that it is in doubt."""

    execution_id: ExecutionId
    call_id: CallId
    runner: str
    effect: Literal["once"] = "once"


class Timer(NamedTuple):
    """Send a command at `due_ms` (Unix time), again and again until it is no longer awaited."""

    kind: Literal["timeout", "expiry"]
    execution_id: ExecutionId
    due_ms: int
    approval_id: ApprovalId | None = None
    effect: Literal["timer"] = "timer"


class StartChild(NamedTuple):
    """Wake the agent that a call is for; its run's end will be the call's result."""

    execution_id: ExecutionId
    call_id: CallId
    effect: Literal["child"] = "child"


class CancelChild(NamedTuple):
    """Cancel what a call began: the run that delegated has ended."""

    execution_id: ExecutionId
    call_id: CallId
    effect: Literal["cancel"] = "cancel"


class TellDelegator(NamedTuple):
    """Tell the run that this one worked for how it ended."""

    execution_id: ExecutionId
    effect: Literal["report"] = "report"


Effect = (
    AssembleContext
    | CallModel
    | CallTool
    | AskToStart
    | CallToolOnce
    | Timer
    | StartChild
    | CancelChild
    | TellDelegator
)


def awaiting(run: Run) -> tuple[Effect, ...]:
    """Return everything that `run` waits for."""
    if run.ended:
        return _awaiting_after_the_end(run) if run.unsettled else ()
    effects: list[Effect] = []
    if run.status == "assembling":
        effects.append(AssembleContext(run.id))
    elif run.status == "thinking" and not run.waits:
        effects.append(CallModel(run.id, run.step))
    if run.paused_at_ms is None:
        effects.append(Timer("timeout", run.id, run.deadline_ms))
    for call in run.calls.values():
        if call.status == "requested":
            if call.child is not None:
                effects.append(StartChild(run.id, call.id))
                continue
            effects.append(CallTool(run.id, call.id) if call.idempotent else AskToStart(run.id, call.id))
        elif call.status == "started":
            effects.append(CallToolOnce(run.id, call.id, call.runner or ""))
        elif call.status == "approval":
            effects.append(Timer("expiry", run.id, call.expires_at_ms, call.approval_id))
    return tuple(effects)


def _awaiting_after_the_end(run: Run) -> tuple[Effect, ...]:
    effects: list[Effect] = [CancelChild(run.id, call.id) for call in run.calls.values() if call.delegated]
    if run.trigger.delegator is not None and not run.reported:
        effects.append(TellDelegator(run.id))
    return tuple(effects)
