"""What a replay found, as a person and as a program reads it."""

from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console

from infra.cli.common import table
from infra.cli.rows import money
from infra.cli.timeline import line
from processors.executions.state import Call, Run
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
from processors.runtime.redecide import Difference, Redecided
from processors.runtime.replay import RunReplay
from schemas.chat import ChatMessage
from schemas.ids import CallId
from schemas.message import JsonObject
from streams.records import format_time

CELL_CHARS = 160
TOLD_DIFFERENCES = 20


def status_of(run: Run) -> str:
    """Return a run's status as people know it: a person who is awaited shows."""
    waits = any(call.status == "approval" for call in run.calls.values())
    return "waiting_approval" if waits and not run.ended else run.status


# --- a run at a point -----------------------------------------------------------------------------------------------


def replayed_json(replayed: RunReplay, run: Run) -> JsonObject:
    """Return a run's state for programs."""
    return {
        "execution_id": run.id,
        "agent_id": run.agent_id,
        "agent_version": run.agent_version,
        "sequence": replayed.sequence,
        "stream_ends": replayed.ends,
        "status": status_of(run),
        "step": run.step,
        "started": format_time(run.started_at_ms),
        "deadline": format_time(run.deadline_ms),
        "paused": format_time(run.paused_at_ms) if run.paused_at_ms is not None else None,
        "totals": run.totals().model_dump(),
        "calls": [_call_json(call) for call in run.calls.values()],
        "awaits": [effect._asdict() for effect in replayed.awaits()],
        "in_doubt": [call.id for call in run.calls.values() if call.status == "in_doubt"],
        "transcript": [message.model_dump(mode="json") for message in run.transcript],
    }


def print_replayed(console: Console, replayed: RunReplay, run: Run) -> None:
    """Print a run's state and how it came there."""
    for envelope in replayed.timeline:
        console.print(line(envelope))
    console.print()
    console.print(f"[bold]run[/bold] {run.id} at sequence {replayed.sequence} of {replayed.ends}: {status_of(run)}")
    totals = run.totals()
    console.print(
        f"agent {run.agent_id} (version {run.agent_version}); step {run.step}, {totals.llm_calls} model calls, "
        f"{totals.tool_calls} tool calls, {totals.tokens_input} + {totals.tokens_output} tokens, "
        f"{money(totals.cost_micros, None)}"
    )
    if run.calls:
        shown = table("call", "step", "tool", "status", "arguments")
        for call in run.calls.values():
            shown.add_row(call.id, str(call.step), call.tool, call.status, _flat(str(call.arguments)))
        console.print(shown)
    for told in _awaited(replayed.awaits(), run):
        console.print(f"awaits {told}", markup=False)
    for message in run.transcript:
        console.print(_said(message), markup=False)


def _call_json(call: Call) -> JsonObject:
    return asdict(call)


def _awaited(effects: tuple[Effect, ...], run: Run) -> list[str]:
    doubts = [call for call in run.calls.values() if call.status == "in_doubt"]
    told = [_effect(effect, run) for effect in effects]
    told += [f"a person's word on what became of {call.tool} (call {call.id})" for call in doubts]
    return told or ["nothing"]


def _effect(effect: Effect, run: Run) -> str:
    match effect:
        case AssembleContext():
            return "its context: memories, the entity, the tools in force"
        case CallModel(step=step):
            return f"the model's reply to step {step}"
        case CallTool(call_id=call_id):
            return f"the result of {_tool(run, call_id)}"
        case AskToStart(call_id=call_id):
            return f"the right to begin {_tool(run, call_id)}, which can't be repeated"
        case CallToolOnce(call_id=call_id, runner=runner):
            return f"the result of {_tool(run, call_id)} from {runner}, the only one that may make it"
        case StartChild(call_id=call_id):
            return f"the end of the run of {run.calls[call_id].arguments.get('agent')!r} (call {call_id})"
        case CancelChild(call_id=call_id):
            return f"that the run of {run.calls[call_id].arguments.get('agent')!r} is cancelled (call {call_id})"
        case TellDelegator():
            return "that its end is told to the run that it worked for"
        case Timer(kind=kind, due_ms=due_ms):
            return f"{'its timeout' if kind == 'timeout' else 'a person until'} {_when(due_ms)}"


def _tool(run: Run, call_id: CallId) -> str:
    return f"{run.calls[call_id].tool} (call {call_id})"


def _when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def _said(message: ChatMessage) -> str:
    planned = "".join(f" → {call.name}" for call in message.tool_calls)
    return f"{message.role:>9}: {_flat(message.content)}{planned}"


def _flat(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= CELL_CHARS else flat[: CELL_CHARS - 1] + "…"


# --- deciding again -------------------------------------------------------------------------------------------------


def redecided_json(report: Redecided) -> JsonObject:
    """Return what came of deciding again for programs."""
    return {
        "ok": not report.differences,
        "runs": len(report.runs),
        "identical_runs": sum(report.runs.values()),
        "differing_runs": sorted(run_id for run_id, same in report.runs.items() if not same),
        "commands": report.commands,
        "events": report.events,
        "given_events": report.given,
        "given_runs": report.given_runs,
        "pending_commands": report.pending,
        "internal": report.internal,
        "dead_letters": report.dead_letters,
        "possible_from": {str(partition): offset for partition, offset in report.starts.items()},
        "differences": [_difference_json(difference) for difference in report.differences],
    }


def print_redecided(console: Console, notes: Console, report: Redecided) -> None:
    """Print what came of deciding again; the last line is the verdict."""
    for partition, offset in sorted(report.starts.items()):
        notes.print(
            f"note: strict replay of partition {partition} is possible from offset {offset} of ai.commands on; "
            "what came before is no longer kept",
            style="dim",
        )
    if report.given:
        said = f"{report.given} events, {report.given_runs} whole runs among them, follow from commands no longer kept"
        notes.print(f"note: {said}: taken as given", style="dim")
    if report.pending:
        notes.print(f"note: {report.pending} commands are not decided yet: is a worker running?", style="dim")
    if report.internal:
        notes.print(f"note: {report.internal} commands were answered as internal, taken as given", style="dim")
    for difference in report.differences[:TOLD_DIFFERENCES]:
        console.print(f"differs: {difference}", markup=False)
    if len(report.differences) > TOLD_DIFFERENCES:
        console.print(f"… and {len(report.differences) - TOLD_DIFFERENCES} more")
    same, runs = sum(report.runs.values()), len(report.runs)
    counted = f"{report.events} events of {report.commands} commands"
    if not report.differences:
        console.print(f"replay: {same} run{'' if same == 1 else 's'} byte-identical ({counted})")
    else:
        count = len(report.differences)
        console.print(
            f"replay: DIFFERENT ({count} difference{'' if count == 1 else 's'}; "
            f"{same} of {runs} runs byte-identical; {counted})"
        )


def _difference_json(difference: Difference) -> JsonObject:
    return {**asdict(difference), "runs": sorted(difference.runs)}
