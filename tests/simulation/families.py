"""What must hold of runs that work for other runs: read from the raw log alone, across streams."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.simulation.facts import ENDS, Facts, Said
from tests.simulation.world import World

STATUS = {
    "execution.completed": "completed",
    "execution.failed": "failed",
    "execution.cancelled": "cancelled",
    "execution.timed_out": "timed_out",
}
FORCED_STEP = 0
SOON_MS = 20_000  # who is to be cancelled may end by itself before anybody can say so, also where an owner has died


def children(facts: Facts) -> dict[str, list[Said]]:
    """Return the runs that began for a call, by the call."""
    found: dict[str, list[Said]] = defaultdict(list)
    for event in facts.all("execution.started"):
        if (delegator := event.data["trigger"]["delegator"]) is not None:
            found[delegator["call_id"]].append(event)
    return found


def one_child(world: World, facts: Facts) -> Iterator[str]:
    """A delegation starts at most one run, and that of the agent that it names; none starts without a delegation."""
    delegated = {event.data["call_id"]: event for event in facts.all("delegation.started")}
    depths = {event.run: event.data["trigger"]["depth"] for event in facts.all("execution.started")}
    for call, begun in children(facts).items():
        asked = delegated.get(call)
        if len(begun) > 1:
            yield f"the delegation {call} started {len(begun)} runs"
        if asked is None or asked.data["child_agent_id"] != begun[0].agent:
            yield f"the run {begun[0].run} works for the call {call}, which is no delegation to its agent"
        elif begun[0].data["trigger"]["depth"] != depths[asked.run] + 1:
            yield f"the run {begun[0].run} is not one deeper than {asked.run}, for which it works"


def told_once(world: World, facts: Facts) -> Iterator[str]:
    """A run's end is told once, and counts once where it is told; both say the same."""
    for run, times in Counter(event.run for event in facts.all("delegation.reported")).items():
        if times > 1:
            yield f"the end of {run} was told {times} times"
    ends = {event.run: STATUS[event.type] for event in facts.all(*ENDS)}
    for call, times in Counter(event.data["call_id"] for event in facts.all("delegation.finished")).items():
        if times > 1:
            yield f"the delegation {call} finished {times} times"
    for event in facts.all("delegation.finished"):
        outcome = event.data["outcome"]
        true = "refused" if outcome["execution_id"] is None else ends.get(outcome["execution_id"])
        if outcome["status"] != true:
            yield f"the delegation {event.data['call_id']} finished as {outcome['status']}, but it is {true}"


def all_finished(world: World, facts: Facts) -> Iterator[str]:
    """At rest, every delegation has finished, unless both sides wait; who works for an ended run has ended too."""
    finished = {event.data["call_id"] for event in facts.all("delegation.finished")}
    ended = {event.run for event in facts.all(*ENDS)}
    begun = children(facts)
    for event in facts.all("delegation.started"):
        call = event.data["call_id"]
        live = [child.run for child in begun[call] if child.run not in ended]
        if event.run in ended and live:
            yield f"the run {event.run} has ended, and {live[0]} still works for it"
        if call not in finished and not live:
            yield f"nobody told the run {event.run} how its delegation {call} ended"


def cancelled_below(world: World, facts: Facts) -> Iterator[str]:
    """Who ends with a delegation open has it cancelled, unless its end comes at about the same time."""
    if world.scenario.clock or world.scenario.sleep:
        return  # hours may go by between two records
    finished = {event.data["call_id"]: event for event in facts.all("delegation.finished")}
    ends = {event.run: event for event in facts.all(*ENDS)}
    asked = {a.data["trigger"]["id"] for a in facts.asked if a.type == "delegation.cancel"}
    for event in facts.all("delegation.started"):
        call, end = event.data["call_id"], ends.get(event.run)
        told = finished.get(call)
        if end is None or call in asked or (told is not None and told.sequence < end.sequence):
            continue
        for child in children(facts)[call]:
            if (its := ends.get(child.run)) is None or its.at_ms > end.at_ms + SOON_MS:
                yield f"the run {event.run} ended, and nobody cancelled {child.run}, which works for it"


def _configs(events: list[Said]) -> Iterator[tuple[Said, dict[str, Any], dict[int, dict[str, Any]]]]:
    """Yield a stream's events, each with the configuration in force and those of all versions."""
    config: dict[str, Any] = {}
    versions: dict[int, dict[str, Any]] = {}
    for event in events:
        if event.type == "agent.created":
            config = event.data["config"]
        elif event.type == "agent.updated":
            config = config | event.data["changes"]
        if event.type in ("agent.created", "agent.updated"):
            versions[event.data["agent_version"]] = config
        yield event, config, versions


def within_limits(world: World, facts: Facts) -> Iterator[str]:
    """Depth and fan-out are those of the configuration in force, and only managed agents are called."""
    for events in facts.said.values():
        depths: dict[str, int] = {}
        calls: Counter[str] = Counter()
        for event, config, _ in _configs(events):
            if event.type == "execution.started":
                depths[event.run] = event.data["trigger"]["depth"]
            elif event.type == "delegation.started":
                calls[event.run] += 1
                if depths[event.run] >= config["max_causation_depth"]:
                    yield f"the run {event.run} delegates at depth {depths[event.run]}"
                if calls[event.run] > config["max_delegations_per_run"]:
                    yield f"the run {event.run} delegates {calls[event.run]} times"
                if event.data["agent"] not in config["managed_agents"]:
                    yield f"the run {event.run} delegates to {event.data['agent']}"


def as_forced(world: World, facts: Facts) -> Iterator[str]:
    """The one forced rule of this world, a number that is even, is followed exactly where it holds."""
    for events in facts.said.values():
        ruled = {event.run: event for event in events if event.type == "delegation.ruled"}
        ready = {event.run for event in events if event.type == "context.assembled"}
        for event, _, versions in _configs(events):
            if event.type != "execution.started" or event.run not in ready:
                continue
            rules = versions[event.data["agent_version"]].get("delegation_rules", ())
            forced = [rule["agent"] for rule in rules if rule["mode"] == "force"]
            data = event.data["trigger"]["data"]
            number = data.get("number") if isinstance(data, dict) else None
            expected = forced if isinstance(number, int) and number % 2 == 0 else []
            calls = ruled[event.run].data["calls"] if event.run in ruled else []
            found = [call["arguments"]["agent"] for call in calls]
            if found != expected:
                yield f"the run {event.run} of number {number} is forced to call {found}, not {expected}"
