"""What is read of an agent before its deliveries are filtered: as it was saved, or not at all."""

from types import SimpleNamespace
from typing import Any

import pytest

from infra.hooks import conditions
from infra.hooks.conditions import configs_in
from processors.triggers.conditions import admits
from schemas.errors import NotFoundError, UnavailableError
from schemas.module_events import Trigger
from tests.processors.samples import AGENT, SITE, config

DELIVERY = Trigger(type="webhook", source="/hooks/h", id="1", time_ms=1, data={})


def agents(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any] | None) -> conditions.ConfigReader:
    async def get_agent(*_: object) -> SimpleNamespace:
        if told is None:
            raise NotFoundError("no such agent")
        return SimpleNamespace(config=told)

    monkeypatch.setattr(conditions, "get_agent", get_agent)
    pool: Any = None
    return configs_in(pool)


@pytest.mark.parametrize(
    "change",
    [
        {"timezone": "Europe/Atlantis"},
        {"triggers": ["webhook", "schedule:daily_9am @ Europe/Atlantis"]},
        {"trigger_conditions": {"webhook": "data.s.matches('a')"}},
    ],
)
async def test_a_condition_holds_also_where_the_agent_would_not_be_saved_today(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    saved = config(triggers=("webhook",), trigger_conditions={"webhook": "data.wanted == true"}).model_dump(mode="json")
    found = await agents(monkeypatch, saved | change)(SITE, AGENT)
    assert found is not None
    assert not admits(found, DELIVERY)


async def test_an_agent_of_a_newer_release_is_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = config(triggers=("webhook",)).model_dump(mode="json") | {"moods": ["calm"]}
    with pytest.raises(UnavailableError, match="can't be read by this release"):
        await agents(monkeypatch, saved)(SITE, AGENT)


async def test_of_an_agent_that_is_not_there_yet_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await agents(monkeypatch, None)(SITE, AGENT) is None
