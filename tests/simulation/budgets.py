"""I11, of costs: nothing is asked without a reservation, and no day costs more than its cap."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.simulation.facts import ENDS, Facts, Said
from tests.simulation.world import World

DAY_MS = 86_400_000
LATE_MS = 10 * 60_000
PAID = ("step.thought", "step.model_failed", "step.attempt_failed", "usage.metered")


def reserved_first(world: World, facts: Facts) -> Iterator[str]:
    """A question of a capped agent is asked once its reservation is acknowledged, and by whoever asks it."""
    where = defaultdict[tuple[str, int], list[int]](list)
    for event in facts.all("budget.reserved"):
        where[event.run, event.data["step"]].append(event.offset)
    capped = {events[0].agent for events in facts.said.values() if _cap(events) is not None}
    for asked in world.ledger.models:
        offsets = where[asked.execution_id, asked.step]
        if asked.agent_id in capped and not any(offset < asked.events_end for offset in offsets):
            yield f"step {asked.step} of {asked.execution_id} is asked without a reservation"


def within_the_cap(world: World, facts: Facts) -> Iterator[str]:
    """What a day costs, with all that is reserved, is within the cap at each reservation."""
    for agent, events in facts.said.items():
        cap = _cap(events)
        if cap is None:
            continue
        spent, held, ended = defaultdict[int, int](int), dict[str, int](), dict[str, int]()
        for event in events:
            day = event.at_ms // DAY_MS
            if event.type in PAID:
                spent[day] += event.data["cost_micros"]
                if event.type != "step.attempt_failed" and event.data.get("reason") != "second":
                    held.pop(event.run, None)
            elif event.type in ENDS:
                ended[event.run] = event.at_ms
            elif event.type == "budget.reserved":
                held[event.run] = event.data["cost_micros"]
                whole = sum(cost for run, cost in held.items() if ended.get(run, event.at_ms) > event.at_ms - LATE_MS)
                if spent[day] + whole > cap:
                    yield f"agent {agent} may spend {spent[day] + whole} of {cap} at sequence {event.sequence}"


def _cap(events: Sequence[Said]) -> int | None:
    for event in events:
        if event.type == "agent.created":
            cap: int | None = event.data["config"]["max_cost_micros_per_day"]
            return cap
    return None
