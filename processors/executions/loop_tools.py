"""Tools that a run's own loop carries out: `wait`, `finish`, and keeping what is to be remembered."""

from collections.abc import Sequence

from processors.agents.state import Agent
from processors.executions.policy import Denial, check
from processors.executions.state import Call, Run
from schemas.events import MemoryStored, PlannedCall
from schemas.loop_tools import FINISH, REMEMBER, WAIT


def refusal(run: Run, call: PlannedCall, at_ms: int) -> Denial | None:
    """Return why the loop can't do what `call` asks for, though it may be asked."""
    if call.tool == FINISH:
        return Denial("not_allowed", f"{FINISH!r} is called alone: do the rest first.")
    if call.tool == WAIT:
        now_ms = at_ms if run.paused_at_ms is None else run.paused_at_ms  # a run's time stands still for a person
        left_s = (run.deadline_ms - now_ms) // 1000
        if call.arguments["seconds"] >= left_s:
            return Denial("not_allowed", f"The run has {max(0, left_s)} seconds left: wait for less, or go on without.")
    return None


def result_of(agent: Agent, run: Run, planned: Sequence[PlannedCall], at_ms: int) -> str | None:
    """Return the result with which a step ends its run, if it does: no person is asked whether a run may end."""
    if len(planned) != 1 or planned[0].tool != FINISH:
        return None
    arguments = planned[0].arguments
    if isinstance(check(agent, run, FINISH, arguments, at_ms, 0), Denial):
        return None
    return str(arguments["result"])


def kept(run: Run, call: Call) -> list[MemoryStored]:
    """Return what a call that ended well leaves in the agent's memory."""
    if call.tool != REMEMBER:
        return []
    given = call.arguments
    return [
        MemoryStored(
            execution_id=run.id,
            memory_id=call.id,
            kind=given.get("kind", "fact"),
            subject=given.get("subject"),
            content=given["content"],
        )
    ]
