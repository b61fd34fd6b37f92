"""Deliveries over HTTP as senders make them: what is taken, and what is asked for."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from infra.hooks import intake as intake_module
from infra.hooks.conditions import Conditions
from infra.hooks.intake import Intake
from infra.http.app import create_app
from infra.http.hooks import hooks_router
from schemas.agents import AgentConfig
from schemas.errors import AppendError
from schemas.ids import AgentId, SiteId
from schemas.module_events import Trigger
from tests.infra.hooks.places import BODY, SEALER, Place, problem
from tests.infra.served import served

NAUGHTY = Path(__file__).parents[4] / "shared" / "data" / "naughty_strings.json"


async def test_a_signed_delivery_asks_the_hooks_agent_for_a_run(place: Place) -> None:
    hook = await place.hook()
    answer = await place.deliver(hook)
    assert (answer.status_code, answer.json()) == (202, {"id": "msg_1", "status": "accepted"})
    (envelope,) = place.asked()
    assert (envelope.site_id, envelope.agent_id) == (hook.site_id, hook.agent_id)
    assert (envelope.actor, envelope.correlation_id) == (f"hook:{hook.id}", "msg_1")
    (trigger,) = place.triggers()
    assert (trigger.type, trigger.source, trigger.id) == ("webhook", f"/hooks/{hook.id}", "msg_1")
    assert (trigger.event_type, trigger.data) == ("invoice.paid", json.loads(BODY))
    assert abs(trigger.time_ms - time.time() * 1000) < 60_000


async def test_a_delivery_of_github_is_named_and_typed_by_its_headers(place: Place) -> None:
    hook = await place.hook("github")
    body = b'{"action": "opened"}'
    answer = await place.client.post(hook.path, content=body, headers=place.signed(hook, body, "d-1", "pull_request"))
    assert answer.status_code == 202
    (trigger,) = place.triggers()
    assert (trigger.id, trigger.event_type, trigger.data) == ("d-1", "pull_request", {"action": "opened"})


async def test_what_is_sent_again_is_fine_and_starts_nothing_more(place: Place) -> None:
    for scheme in ("standard", "github"):
        hook = await place.hook(scheme)
        before = len(place.asked())
        assert (await place.deliver(hook)).status_code == 202
        for late_s in (1, 3_600, 86_400):  # signed anew, as senders do
            place.ahead_s = late_s
            answer = await place.deliver(hook)
            assert (answer.status_code, answer.json()) == (200, {"id": "msg_1", "status": "duplicate"})
        place.ahead_s = 0
        assert len(place.asked()) == before + 1


async def test_copies_that_arrive_at_once_ask_for_one_run(place: Place) -> None:
    hook = await place.hook()
    answers = await asyncio.gather(*(place.deliver(hook) for _ in range(12)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({(envelope.id, str(envelope.command)) for envelope in place.asked()}) == 1


async def test_a_delivery_that_the_log_did_not_take_may_be_sent_again_and_is_the_same(place: Place) -> None:
    hook = await place.hook()

    def down(*_: object) -> None:
        raise AppendError("the log is down")

    place.log.on_write = down  # type: ignore[assignment]
    answer = await place.deliver(hook)
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    place.log.on_write = None
    place.ahead_s = 30
    assert (await place.deliver(hook)).status_code == 202
    (trigger,) = place.triggers()
    assert trigger.time_ms <= (time.time() + 1) * 1000  # of the first attempt
    assert (await place.deliver(hook)).status_code == 200


async def test_a_log_that_does_not_answer_is_not_waited_for_longer_than_senders_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "SEND_S", 0.05)

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(place.log, "send", hang)
    problem(await place.deliver(await place.hook()), 503, "unavailable")


async def test_an_id_belongs_to_one_body(place: Place) -> None:
    hook, other = await place.hook(), await place.hook()
    assert (await place.deliver(hook)).status_code == 202
    assert "another body" in problem(await place.deliver(hook, b'{"other": 1}'), 409, "id-reused")
    assert (await place.deliver(other, b'{"other": 1}')).status_code == 202  # another hook's ids are its own
    assert [trigger.source for trigger in place.triggers()] == [hook.path, other.path]


async def test_a_delivery_that_the_agents_condition_does_not_want_is_taken_and_starts_nothing(place: Place) -> None:
    config = AgentConfig.model_validate({"slug": "sdr", "name": "x", "type": "assistant", "system_prompt": ""})
    known: dict[tuple[SiteId, AgentId], AgentConfig] = {}

    async def config_of(site_id: SiteId, agent_id: AgentId) -> AgentConfig | None:
        return known.get((site_id, agent_id))

    def holds(config: AgentConfig, trigger: Trigger) -> bool:
        return config.slug == "sdr" and trigger.data.get("wanted", False) is True

    intake = Intake(place.store, SEALER, place.log, conditions=Conditions(holds, config_of))
    hook = await place.hook()
    async with served(create_app([hooks_router(intake)])) as client:
        place.client = client
        assert (await place.deliver(hook, b"{}", "unknown-agent")).json()["status"] == "accepted"
        known[hook.site_id, hook.agent_id] = config
        for _ in range(2):
            answer = await place.deliver(hook, b"{}", "unwanted")
        assert (answer.status_code, answer.json()["status"]) == (200, "duplicate")
        assert (await place.deliver(hook, b'{"wanted": true}', "wanted")).json()["status"] == "accepted"
    assert [trigger.id for trigger in place.triggers()] == ["unknown-agent", "wanted"]
    assert intake.counts == {"accepted": 2, "filtered": 1, "duplicate": 1}


async def test_naughty_strings_arrive_as_they_were_sent(place: Place) -> None:
    if not NAUGHTY.exists():
        pytest.skip(f"no strings at {NAUGHTY}")
    texts = json.loads(NAUGHTY.read_text())
    hook = await place.hook(per_minute=60_000)
    bodies = [json.dumps({"type": text, text: text}, ensure_ascii=False).encode() for text in texts]
    for number, body in enumerate(bodies):
        assert (await place.deliver(hook, body, f"naughty-{number}")).status_code == 202
    assert [trigger.data for trigger in place.triggers()] == [json.loads(body) for body in bodies]
