"""What whole runs are metered for, with a provider that fails on demand: what it told, whatever becomes of them."""

from functools import partial
from typing import Literal

import pytest

from infra.models.provider import Timeouts
from infra.models.providers import ProviderConfig, make_provider
from processors.models.call import ModelPorts, call_model
from processors.runtime import effects
from processors.runtime.process import Process
from schemas.chat import Usage
from schemas.commands import StartExecution
from schemas.events import Event, ExecutionCompleted, ExecutionFailed, StepAttemptFailed
from schemas.module_events import Trigger
from streams.memory_log import MemoryLog
from tests.fake_provider import FakeProvider, Fault, Say
from tests.processors.asks import activate, create
from tests.processors.fakes import Owner, StubContext, StubTools, history, new_log, tell, until
from tests.processors.samples import AGENT, START_MS, config

Speaks = Literal["openai", "anthropic"]
RUNS = 24
FAULTS: tuple[Fault, ...] = (
    "none", "rate_limited", "none", "overloaded", "none", "work_then_500", "none", "cut", "truncated_json", "none",
    "bad_arguments", "none", "no_usage", "server_error", "none", "hang", "content_filter",
)  # fmt: skip
PATIENT = Timeouts(connect_s=3, first_token_s=3, between_tokens_s=3, total_s=3)  # what is told in time is not missed


async def at_once(_: float) -> None:
    """A wait before the next try that is over at once."""


def events(log: MemoryLog) -> list[Event]:
    return list(history(log, AGENT).events)


def ends(log: MemoryLog) -> list[ExecutionCompleted | ExecutionFailed]:
    return [event for event in events(log) if isinstance(event, ExecutionCompleted | ExecutionFailed)]


@pytest.mark.slow
@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_metered_is_what_the_provider_told(api: Speaks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "call_model", partial(call_model, sleep=at_once))
    fake = FakeProvider(
        plan=lambda number, body: FAULTS[number * 5 % len(FAULTS)],
        say=lambda body: Say("Done.") if len(body["messages"]) > 3 else Say("So.", (("look_up", {"name": "Ada"}),)),
    )
    log = await new_log()
    async with fake.running():
        address = fake.address + ("/v1" if api == "openai" else "")
        provider = make_provider(ProviderConfig(api, api, "sk-test", address, timeouts=PATIENT))
        models = ModelPorts({api: provider})
        limits = {"max_runs_per_hour": RUNS, "max_runs_per_day": RUNS, "max_concurrent_runs": RUNS}
        async with Owner(Process(log, models, StubTools(), StubContext(), now_ms=log._clock), log):
            await tell(log, create(config(llm_provider=api, llm_model="m", **limits)), activate())
            for number in range(RUNS):
                trigger = Trigger(type="manual", source="/t", id=str(number), time_ms=START_MS)
                await tell(log, StartExecution(trigger=trigger))
            await until(lambda: len(ends(log)) == RUNS, 60)
        await provider.aclose()
    told = events(log)
    metered = [usage for event in told if isinstance(usage := getattr(event, "usage", None), Usage)]
    assert sum(usage.input_tokens for usage in metered) == fake.told.input_tokens > 0
    assert sum(usage.output_tokens for usage in metered) == fake.told.output_tokens > 0
    assert {type(end) for end in ends(log)} == {ExecutionCompleted, ExecutionFailed}
    assert any(isinstance(event, StepAttemptFailed) and event.unsettled for event in told)
