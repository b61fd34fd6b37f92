"""Rows of the tables, as a person reads them."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from infra.cli.common import table
from projections.queries.executions import Execution, ExecutionSummary, Step
from projections.queries.usage import UsageTotals
from schemas.catalogue import MICROS
from schemas.message import Json

_CELL_CHARS = 100


def print_execution(console: Console, run: Execution) -> None:
    """Print a run with its steps and tool calls."""
    console.print(f"[bold]run[/bold] {run.id}  {_colour(run.status)}")
    woken = run.trigger_event_type or run.trigger_type
    woken_by = f"woken by {woken} from {run.trigger_source}"
    console.print(f"agent {run.agent_slug} (version {run.agent_version}), {woken_by}", markup=False)
    took = f"{run.duration_ms} ms" if run.duration_ms is not None else "under way"
    console.print(
        f"{run.current_step} steps, {run.llm_calls} model calls, {run.tool_calls} tool calls, "
        f"{run.tokens_total} tokens, {money(run.cost_micros, run.currency)}, {took}"
    )
    console.print(_steps(run.steps))
    for approval in run.approvals:
        console.print(f"approval {approval.id}: {approval.status}, {approval.action_description}", markup=False)
    if run.result:
        console.print("[bold]result[/bold]", escape(run.result))
    if run.error:
        console.print(f"[red]{run.error_reason or 'error'}[/red]", escape(run.error))


def print_tree(console: Console, runs: Sequence[ExecutionSummary]) -> None:
    """Print runs that belong together, each below the one that it works for; the root comes first."""
    branches: dict[str, Tree] = {}
    for run in runs:
        cost = money(run.cost_micros + run.delegated_cost_micros, run.currency)
        said = run.error or run.result or ""
        label = f"[bold]{run.agent_slug or run.agent_id}[/bold] {_colour(run.status)} {run.id} {cost}"
        above = branches.get(run.parent_execution_id or "")
        branch = branches[run.id] = Tree(label) if above is None else above.add(label)
        if said:
            branch.add(Text(_short(said), style="dim"))
    if runs:
        console.print(branches[runs[0].id])


def print_usage(console: Console, totals: UsageTotals, title: str) -> None:
    """Print what was used."""
    counts = totals.counts
    costs = ", ".join(money(micros, currency) for currency, micros in totals.cost_micros.items()) or "nothing"
    console.print(
        f"[bold]{title}[/bold]  runs: {counts.agent_runs}, model calls: {counts.llm_calls}, tool calls: "
        f"{counts.tool_calls}, {counts.tokens_input} + {counts.tokens_output} tokens, {costs}"
    )


def money(micros: int, currency: str | None) -> str:
    """Return micro-units as a person writes them."""
    return f"{micros // MICROS}.{micros % MICROS:06d} {currency or ''}".rstrip()


def _steps(steps: tuple[Step, ...]) -> object:
    shown = table("step", "", "what", "took")
    for step in steps:
        took = f"{step.duration_ms} ms" if step.duration_ms else ""
        shown.add_row(str(step.step_number or ""), step.step_type, _told(step), took)
    return shown


def _told(step: Step) -> str:
    if step.step_type == "act":
        outcome = step.error or (_short(step.tool_output) if step.tool_output is not None else "…")
        told = f"{step.tool_name}({_short(step.tool_input)}) → {outcome}"
    else:
        told = step.reasoning or step.output_text or step.input_text or step.error or ""
    flat = " ".join(told.split())
    return escape(flat if len(flat) <= 2 * _CELL_CHARS else flat[: 2 * _CELL_CHARS - 1] + "…")


def _short(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={str(item)[:40]}" for name, item in list(value.items())[:3])
    return str(value)[:_CELL_CHARS]


def _colour(status: str) -> str:
    style = {"completed": "green", "running": "cyan", "waiting_approval": "yellow"}.get(status, "red")
    return f"[{style}]{status}[/{style}]"
