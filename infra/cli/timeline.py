"""Events as a person reads them: one line each, as they arrive."""

from datetime import UTC, datetime

from rich.text import Text

from schemas import events as e
from schemas.catalogue import MICROS
from schemas.envelope import EventEnvelope
from schemas.message import Json

_DETAIL_CHARS = 150


def line(envelope: EventEnvelope) -> Text:
    """Return an event's line: time, sequence, what happened, and the detail that matters."""
    when = datetime.fromtimestamp(envelope.at_ms / 1000, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    mark, style = _mark(envelope.event)
    text = Text()
    text.append(f"{when} ", style="dim")
    text.append(f"{envelope.sequence:>4} ", style="dim")
    text.append(f"{mark} {envelope.type.removeprefix('ai.'):<22} ", style=style)
    text.append(_cut(detail(envelope.event)))
    return text


def detail(event: e.Event) -> str:  # noqa: C901 - one case an event
    """Return what matters of an event, in words."""
    match event:
        case e.AgentCreated():
            return f"{event.name} ({event.type}), version {event.agent_version}"
        case e.AgentUpdated():
            back = f" (rolled back to {event.rolled_back_to})" if event.rolled_back_to is not None else ""
            return f"version {event.agent_version}{back}: {', '.join(sorted(event.changes))}"
        case e.AgentDeactivated(cancel_runs=True):
            return f"{event.name}, its runs cancelled"
        case e.AgentActivated() | e.AgentDeactivated() | e.AgentDeleted():
            return event.name
        case e.GoalProgressed():
            met = ", achieved" if event.achieved else ""
            return f"{event.goal}: {event.value:.15g} ({event.delta:+.15g} by {event.event_type}){met}"
        case e.TriggerSkipped():
            return f"{event.event_type or event.trigger_type}: {event.reason}, {event.message}"
        case e.ScheduleAdvanced():
            return f"{event.schedule}: {_next(event.next_due_ms)}{f', {event.missed} missed' if event.missed else ''}"
        case e.CatalogueRecorded():
            return f"{len(event.catalogue.tools)} tools and {len(event.catalogue.prices)} prices in force"
        case e.ExecutionStarted():
            return f"woken by {event.trigger.event_type or event.trigger_type} from {event.trigger.source}"
        case e.ContextAssembled():
            return f"{len(event.memories)} memories"
        case e.DelegationRuled():
            held = [found.rule + 1 for found in event.rules if found.verdict == "holds"]
            forced = "".join(f" → {call.arguments.get('agent')}" for call in event.calls)
            return f"rules that hold: {', '.join(map(str, held)) or 'none for certain'}{forced}"
        case e.DelegationStarted():
            return event.agent
        case e.DelegationFinished():
            return f"{event.outcome.status}, {event.outcome.runs} runs"
        case e.StepObserved():
            return f"step {event.step}: {event.summary}"
        case e.StepThought():
            planned = "".join(f" → {call.tool}" for call in event.calls)
            used = f"{event.usage.input_tokens}+{event.usage.output_tokens} tokens, {event.latency_ms} ms"
            return f"step {event.step}: “{_cut(event.text, 90)}”{planned} ({used})"
        case e.StepModelFailed() | e.StepAttemptFailed():
            return f"step {event.step}: {event.reason}, {event.message}"
        case e.BudgetReserved() | e.BudgetAwaited():
            return _amount(event)
        case e.UsageMetered():
            return f"step {event.step}: {event.reason}, {event.usage.input_tokens}+{event.usage.output_tokens} tokens"
        case e.ToolRequested() | e.ToolStarted() | e.ToolInDoubt():
            return event.tool
        case e.ToolCompleted():
            return f"{event.tool} → {_short(event.output)} ({event.duration_ms} ms)"
        case e.ToolFailed():
            return f"{event.tool}: {event.error}"
        case e.ToolDenied():
            return f"{event.tool}: {event.message}"
        case e.ApprovalRequested():
            return f"{event.action_description} ({event.risk_level} risk: {event.risk_explanation})"
        case e.ApprovalEscalated():
            return f"nobody answered in time: somebody with the role {event.role!r} is asked"
        case e.ApprovalResolved():
            return f"{'approved' if event.approved else 'denied'} by {event.resolved_by} {event.note}"
        case e.ExecutionCompleted():
            return f"“{_cut(event.result, 110)}” ({event.duration_ms} ms, {event.tokens_used} tokens)"
        case e.ExecutionFailed():
            return f"{event.reason}: {event.error}"
        case e.ExecutionCancelled():
            return f"by {event.cancelled_by}: {event.reason}"
        case e.ExecutionTimedOut():
            return f"after {event.timeout_seconds} s"
        case e.CommandRejected():
            return f"{event.command}: {event.message}"
        case _:
            return ""


def _mark(event: e.Event) -> tuple[str, str]:
    match event:
        case e.ExecutionStarted():
            return "▶", "bold cyan"
        case e.StepObserved() | e.ContextAssembled():
            return "◉", "blue"
        case e.StepThought():
            return "✦", "magenta"
        case e.ToolRequested() | e.ToolStarted():
            return "→", "yellow"
        case e.ToolCompleted() | e.ApprovalResolved():
            return "✓", "green"
        case e.ExecutionCompleted():
            return "■", "bold green"
        case e.ApprovalRequested() | e.ApprovalEscalated() | e.ToolInDoubt():
            return "?", "bold yellow"
        case (
            e.ToolFailed()
            | e.ToolDenied()
            | e.StepModelFailed()
            | e.ExecutionFailed()
            | e.ExecutionTimedOut()
            | e.ExecutionCancelled()
            | e.CommandRejected()
            | e.TriggerSkipped()
        ):
            return "✗", "red"
        case _:
            return "·", "dim"


def _next(due_ms: int | None) -> str:
    if due_ms is None:
        return "never comes again"
    return f"next at {datetime.fromtimestamp(due_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def _short(output: Json) -> str:
    if isinstance(output, dict):
        named = [f"{name}={value}" for name, value in output.items() if isinstance(value, str | int | float) and value]
        return ", ".join(named[:3]) or f"{len(output)} fields"
    if isinstance(output, list):
        return f"{len(output)} items"
    return str(output)


def _cut(text: str, chars: int = _DETAIL_CHARS) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= chars else flat[: chars - 1] + "…"


def _amount(event: e.BudgetReserved | e.BudgetAwaited) -> str:
    tokens = "" if event.tokens is None else f"{event.tokens} tokens"
    cost = "" if event.cost_micros is None else f"{event.cost_micros / MICROS:.6f} USD"
    return f"step {event.step}: at most {' and '.join(filter(None, (tokens, cost)))}"
