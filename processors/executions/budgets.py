"""What runs may still spend: reserved before each question to a model, settled by what it came to cost.

All of an agent's runs are in one stream, so its caps are exact over all of them. A question is asked only after
`ai.budget.reserved` stands in the log: what is spent, what questions under way may cost, and what this one may cost
at most are together within every cap. Where only reservations are in the way, the run waits, first come, first
served; where what is spent leaves no room, it fails.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from processors.agents.state import Agent, Hold
from processors.executions.decider import evolve
from processors.executions.endings import failed
from processors.executions.spending import PAID, Paid, assume, hold_of, is_over, plus, settles, spent_in
from processors.executions.state import Run
from processors.models.call import models_of
from processors.models.pricing import cost_micros
from schemas.agents import AgentConfig
from schemas.catalogue import MICROS, Catalogue, ToolDefinition
from schemas.chat import Usage
from schemas.delegation import Budget
from schemas.events import (
    AgentUpdated,
    BudgetAwaited,
    BudgetReserved,
    CatalogueRecorded,
    DelegationStarted,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    FailureReason,
    RunEvent,
    StepAttemptFailed,
    StepObserved,
    StepThought,
)
from schemas.ids import ExecutionId
from schemas.message import STORED

CURRENCY = "USD"  # of all caps
SERVED_AT_ONCE = 50  # waiting runs that one command lets go on or fail: the events of one command have a limit
FRAME_TOKENS = 100  # that a provider adds to a message, and to a prompt
TOOLS_TOKENS = 1_000  # that it adds where there are tools, some hundreds; or that our own format in words takes
TOLD_TOKENS = 1_000  # of a model that is told why its answer can't be used

# As a tuple: a union is made anew each time that it is asked for.
_ENDED = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTimedOut)


@dataclass(frozen=True, slots=True)
class Need:
    """What a question may cost at most, or what was spent."""

    tokens: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a question is not asked, and that no waiting would help."""

    reason: FailureReason
    message: str


def concern(agent: Agent, run: Run | None) -> bool:
    """Whether a decision about `run`, or about none, has to do with budgets."""
    if agent.queued or (agent.version and agent.config.is_capped):
        return True
    if run is None or run.ended:
        return False
    return run.trigger.budget is not None or run.id in agent.held or agent.configs[run.agent_version].is_capped


def budgeted(agent: Agent, runs: Mapping[ExecutionId, Run], events: Sequence[Event], at_ms: int) -> list[Event]:
    """Return a decision's events with what follows from them for budgets.

    A question gets its reservation, waits, or gives way to the run's end; then those that wait get their turn.
    """
    book = _Book(agent, runs, events, at_ms)
    for event in events:
        run = runs.get(event.execution_id) if isinstance(event, RunEvent) else None
        if run is not None and isinstance(event, StepObserved):
            _on_question(book, run, event)
        else:
            book.say(event)
            if run is not None and isinstance(event, StepAttemptFailed):
                _on_attempt(book, run, event)
            elif run is not None and isinstance(event, DelegationStarted):
                _on_delegation(book, run, event)
    _serve(book)
    return book.said


class _Book:
    """What is spent and held with all that was `said` so far in this decision. `config` is in force after it."""

    def __init__(self, agent: Agent, runs: Mapping[ExecutionId, Run], events: Sequence[Event], at_ms: int) -> None:
        self.agent, self.runs, self.events, self.at_ms = agent, runs, events, at_ms
        self.config = _config_after(agent, events)
        self.day, self.month = spent_in(agent.spent_day, "day", at_ms), spent_in(agent.spent_month, "month", at_ms)
        self.held = {run_id: hold for run_id, hold in agent.held.items() if not is_over(hold, at_ms)}
        self.queued = dict.fromkeys(agent.queued)
        self.said: list[Event] = []

    def say(self, *events: Event) -> None:
        """Add events to the decision."""
        for event in events:
            self.said.append(event)
            if isinstance(event, PAID):
                self._pay(event)
            elif isinstance(event, BudgetReserved) and event.call_id is None:
                self.held[event.execution_id] = Hold(event.tokens or 0, event.cost_micros or 0)
                self.queued.pop(event.execution_id, None)
            elif isinstance(event, BudgetAwaited):
                self.held.pop(event.execution_id, None)
                self.queued[event.execution_id] = None
            elif isinstance(event, _ENDED):
                self.queued.pop(event.execution_id, None)

    def _pay(self, event: Paid) -> None:
        hold = self.held.get(event.execution_id)
        self.day, self.month = plus(self.day, event, hold), plus(self.month, event, hold)
        if settles(event):
            self.held.pop(event.execution_id, None)
        if isinstance(event, StepThought):
            self.queued.pop(event.execution_id, None)

    def refusal(self, need: Need) -> Refusal | None:
        """Return why the agent can't spend `need` in this day or month, whatever is settled meanwhile."""
        config, day, month = self.config, self.day, self.month
        return (
            _over("the agent", "a day", config.max_cost_micros_per_day, day.cost_micros, need.cost_micros, _money)
            or _over(
                "the agent", "a month", config.max_cost_micros_per_month, month.cost_micros, need.cost_micros, _money
            )
            or _over("the agent", "a day", config.max_tokens_per_day, day.tokens, need.tokens, _count)
            or _over("the agent", "a month", config.max_tokens_per_month, month.tokens, need.tokens, _count)
        )

    def has_room(self, need: Need, own: ExecutionId) -> bool:
        """Whether `need` fits beside what others hold."""
        others = [hold for run_id, hold in self.held.items() if run_id != own]
        tokens = need.tokens + sum(hold.tokens for hold in others)
        return self.refusal(Need(tokens, need.cost_micros + sum(hold.cost_micros for hold in others))) is None

    def after(self, run: Run) -> Run:
        """Return the run as it is after what was said of it; the one given stays as it is."""
        now = copy.copy(run)
        now.calls = {call_id: copy.copy(call) for call_id, call in run.calls.items()}
        now.transcript, now.lines = list(run.transcript), list(run.lines)
        recorded = {event.sha256: event.catalogue for event in self.said if isinstance(event, CatalogueRecorded)}
        agent = copy.copy(self.agent)
        agent.tool_calls, agent.catalogues = {}, agent.catalogues | recorded
        for event in self.said:
            if isinstance(event, RunEvent) and event.execution_id == run.id:
                if isinstance(event, PAID):
                    assume(now, event, hold_of(self.agent, run.id, self.at_ms))
                evolve(agent, now, event, self.at_ms)
        return now


def _config_after(agent: Agent, events: Sequence[Event]) -> AgentConfig:
    config = agent.config
    for event in events:
        if isinstance(event, AgentUpdated):
            config = AgentConfig.model_validate(config.model_dump(mode="json") | event.changes, context=STORED)
    return config


def _on_question(book: _Book, run: Run, event: StepObserved) -> None:
    own_cap = book.agent.configs[run.agent_version].is_capped or run.trigger.budget is not None
    if not (book.config.is_capped or own_cap):
        book.say(event)
        return
    _serve(book)  # they came before
    now = book.after(run)
    need = _need(book, now, _prompt_tokens(now, event))
    if isinstance(need, Refusal):
        book.say(*failed(now, need.reason, need.message, book.at_ms))
        return
    book.say(event)
    _reserve(book, now, event.step, need, is_next=not book.queued)


def _on_attempt(book: _Book, run: Run, event: StepAttemptFailed) -> None:
    """A try was paid for and gave no thought: the next one needs as much again, and room for what is told with it."""
    hold, usage = book.held.get(run.id), event.usage
    if hold is None or usage is None or run.status != "thinking":
        return
    config, now = book.agent.configs[run.agent_version], book.after(run)
    longer = usage.output_tokens + TOLD_TOKENS
    dearer = _dearest(config, run.catalogue, Usage(input_tokens=longer)) or 0
    need = Need(hold.tokens + longer, hold.cost_micros + dearer)
    refusal = _over_run_cap(config, now, need) or book.refusal(need)
    if refusal is not None:
        book.held.pop(run.id)
        book.say(*failed(now, refusal.reason, refusal.message, book.at_ms))
    else:
        _reserve(book, run, run.step, need, is_next=True)


def _on_delegation(book: _Book, run: Run, event: DelegationStarted) -> None:
    """Leave a delegated run an even share of what its delegator may still spend, which keeps one for itself."""
    cap = _cap_of(book.agent.configs[run.agent_version], run)
    if cap.tokens is None and cap.cost_micros is None:
        return
    spent = _spent_of(book.after(run))
    rest = book.events[book.events.index(event) :]
    parts = 1 + sum(isinstance(e, DelegationStarted) and e.execution_id == run.id for e in rest)
    tokens = None if cap.tokens is None else max(0, cap.tokens - spent.tokens) // parts
    cost = None if cap.cost_micros is None else max(0, cap.cost_micros - spent.cost_micros) // parts
    book.say(BudgetReserved(execution_id=run.id, step=run.step, call_id=event.call_id, tokens=tokens, cost_micros=cost))


def _serve(book: _Book) -> None:
    """Let those who wait go on, in their order, as far as there is room."""
    for run_id in list(book.queued)[:SERVED_AT_ONCE]:
        run = book.runs.get(run_id)
        if run is None or not run.waits:
            continue  # it began to wait just now
        need = _need(book, run, _lines_tokens(run) + _tools_tokens(() if run.final else run.tools))
        if isinstance(need, Refusal):
            book.say(*failed(run, need.reason, need.message, book.at_ms))
        elif book.has_room(need, run_id):
            _reserve(book, run, run.step, need, is_next=True)
        else:
            break


def _reserve(book: _Book, run: Run, step: int, need: Need, *, is_next: bool) -> None:
    tokens, cost = need.tokens, need.cost_micros
    if is_next and book.has_room(need, run.id):
        book.say(BudgetReserved(execution_id=run.id, step=step, call_id=None, tokens=tokens, cost_micros=cost))
    else:
        book.say(BudgetAwaited(execution_id=run.id, step=step, tokens=tokens, cost_micros=cost))


# --- caps -----------------------------------------------------------------------------------------------------------


def _over_run_cap(config: AgentConfig, run: Run, need: Need) -> Refusal | None:
    cap, spent = _cap_of(config, run), _spent_of(run)
    return _over("the run", "in all", cap.cost_micros, spent.cost_micros, need.cost_micros, _money) or _over(
        "the run", "in all", cap.tokens, spent.tokens, need.tokens, _count
    )


def _cap_of(config: AgentConfig, run: Run) -> Budget:
    """Return what a run may spend: by its agent's version, and by who delegated to it."""
    left = run.trigger.budget or Budget()
    tokens = [cap for cap in (config.max_tokens_per_run, left.tokens) if cap is not None]
    cost = [cap for cap in (config.max_cost_micros_per_run, left.cost_micros) if cap is not None]
    return Budget(tokens=min(tokens, default=None), cost_micros=min(cost, default=None))


def _spent_of(run: Run) -> Need:
    """Return what a run spent itself and through others, and what it left to those that are still under way."""
    shares = [call.share for call in run.calls.values() if call.share is not None and call.delegated]
    return Need(
        run.tokens_input
        + run.tokens_output
        + run.delegated_tokens_input
        + run.delegated_tokens_output
        + run.assumed_tokens
        + sum(share.tokens or 0 for share in shares),
        run.cost_micros
        + run.delegated_cost_micros
        + run.assumed_cost_micros
        + sum(share.cost_micros or 0 for share in shares),
    )


def _over(who: str, period: str, cap: int | None, spent: int, wanted: int, told: "_Told") -> Refusal | None:
    if cap is None or spent + wanted <= cap:
        return None
    return Refusal(
        "budget_exceeded",
        f"{who} may spend {told(cap)} {period}; {told(spent)} is spent, and the next question to the model may take "
        f"{told(wanted)}",
    )


class _Told:
    """How an amount is told to a person."""

    def __init__(self, money: bool) -> None:
        self._money = money

    def __call__(self, amount: int) -> str:
        if not self._money:
            return f"{amount:,} tokens"
        return f"{amount / MICROS:.6f}".rstrip("0").rstrip(".") + f" {CURRENCY}"


_money, _count = _Told(True), _Told(False)


# --- what a question may cost ---------------------------------------------------------------------------------------


def _need(book: _Book, run: Run, prompt_tokens: int) -> Need | Refusal:
    """Return what the run's next question may cost at most, or why it can't be asked in this period."""
    config, catalogue = book.agent.configs[run.agent_version], run.catalogue
    cost = _dearest(config, catalogue, Usage(input_tokens=prompt_tokens, output_tokens=config.max_tokens))
    if cost is None and _caps_cost(book.config, config, run):
        names = [f"{m.provider}/{m.model}" for m in models_of(config) if not _is_priced(catalogue, m.provider, m.model)]
        said = f"costs are capped, but there is no price in {CURRENCY} for {', '.join(names)}: add it to the prices"
        return Refusal("unpriced_model", said)
    need = Need(prompt_tokens + config.max_tokens, cost or 0)
    return _over_run_cap(config, run, need) or book.refusal(need) or need


def _caps_cost(current: AgentConfig, own: AgentConfig, run: Run) -> bool:
    period = (current.max_cost_micros_per_day, current.max_cost_micros_per_month)
    return period != (None, None) or _cap_of(own, run).cost_micros is not None


def _dearest(config: AgentConfig, catalogue: Catalogue, usage: Usage) -> int | None:
    """Return what the dearest of an agent's models takes for `usage`, in micro-units; None if one has no price."""
    names = models_of(config)
    if not all(_is_priced(catalogue, name.provider, name.model) for name in names):
        return None
    cached = usage.model_copy(update={"cached_tokens": usage.input_tokens})  # cheaper, but for odd prices
    prices = [catalogue.price(name.provider, name.model) for name in names]
    return max(cost_micros(price, each) for price in prices for each in (usage, cached))


def _is_priced(catalogue: Catalogue, provider: str, model: str) -> bool:
    price = catalogue.price(provider, model)
    return price is not None and price.currency == CURRENCY


def _prompt_tokens(run: Run, event: StepObserved) -> int:
    """Return no fewer tokens than the prompt of this question has; `run` is as it is before it."""
    fresh = sum(len(run.calls[call_id].outcome.encode()) + FRAME_TOKENS for call_id in event.calls)
    return _lines_tokens(run) + fresh + _tools_tokens(() if event.final else run.tools)


def _lines_tokens(run: Run) -> int:
    """Return no fewer tokens than the messages so far have: as counted by their provider, else one a byte."""
    return run.known_tokens + sum(len(line) + FRAME_TOKENS for line in run.lines[run.known_lines :])


def _tools_tokens(tools: Sequence[ToolDefinition]) -> int:
    return 2 * FRAME_TOKENS + bool(tools) * TOOLS_TOKENS + sum(len(tool.encode()) for tool in tools)
