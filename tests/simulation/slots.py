"""What must hold of schedules: every time that is due fires once or is counted as missed, and none fires twice."""

from collections import Counter
from collections.abc import Iterator

from tests.simulation.facts import Facts, Said
from tests.simulation.world import World

MINUTE_MS = 60_000
COUNTED = 1_000  # missed times are counted exactly up to here
LATE_MS = 30_000  # clocks differ, and a timer may be on its way
CHANGES = ("agent.created", "agent.updated", "agent.activated", "agent.deactivated", "agent.deleted")


def fired_once(world: World, facts: Facts) -> Iterator[str]:
    """No time of a schedule is due twice, or before its time; each that is due starts one run or says why not."""
    for agent, events in facts.said.items():
        due = Counter((e.data["schedule"], e.data["due_ms"]) for e in events if e.type == "agent.schedule_advanced")
        for (schedule, due_ms), times in due.items():
            if due_ms is not None and times > 1:
                yield f"{schedule!r} of {agent} fired {times} times for {due_ms}"
        for event in events:
            if event.type == "agent.schedule_advanced" and event.data["due_ms"] is not None:
                yield from _fired(event, facts)


def _fired(event: Said, facts: Facts) -> Iterator[str]:
    due_ms = event.data["due_ms"]
    if due_ms % MINUTE_MS or due_ms > event.at_ms:
        yield f"{event.agent}#{event.sequence}: {due_ms} is no full minute, or comes later than {event.at_ms}"
    together = facts.by_cause[event.partition, event.cause]
    outcomes = [e for e in together if e.type in ("execution.started", "agent.trigger_skipped")]
    if len(outcomes) != 1:
        yield f"{event.agent}#{event.sequence}: {due_ms} was due, and has {len(outcomes)} outcomes"


def counted(world: World, facts: Facts) -> Iterator[str]:
    """Between two words on a schedule, every minute either fired or is counted as missed."""
    for agent, events in facts.said.items():
        before: dict[str, Said] = {}
        for event in events:
            if event.type in CHANGES:
                before.clear()
            if event.type != "agent.schedule_advanced":
                continue
            last = before.get(event.data["schedule"])
            before[event.data["schedule"]] = event
            if last is None or event.data["missed"] >= COUNTED - 1:
                continue
            minutes = event.data["until_ms"] // MINUTE_MS - last.data["until_ms"] // MINUTE_MS
            told = event.data["missed"] + (event.data["due_ms"] is not None)
            if minutes != told:
                yield f"{agent}#{event.sequence}: {minutes} minutes went by, {told} fired or were missed"


def followed(world: World, facts: Facts) -> Iterator[str]:
    """At rest, an active agent's schedule was followed up to now."""
    for agent, events in facts.said.items():
        active, upcoming = False, 0
        for event in events:
            if event.type in ("agent.activated", "agent.deactivated", "agent.deleted"):
                active = event.type == "agent.activated"
            elif event.type == "agent.schedule_advanced":
                upcoming = event.data["next_due_ms"]
        if active and upcoming and upcoming < world.now_ms() - LATE_MS:
            yield f"the schedule of {agent} was due at {upcoming}, and it is {world.now_ms()}"
