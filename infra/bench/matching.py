"""What matching module events costs of one core, from a record of `module.events` to the commands for agents.

Run it with `python -m infra.bench.matching`. It takes no servers: what is measured is the router's own work.
"""

import random
import time

from processors.triggers.directory import Directory, Listener
from processors.triggers.module_events import read_module_event
from processors.triggers.router import start_command
from schemas.ids import SiteId, agent_id_of, named_id
from streams.cloudevents import CloudEvent, to_draft
from streams.log import Record
from streams.topics import MODULE_EVENTS

SITES, AGENTS_A_SITE, EVENTS = 50, 4, 10_000
AT_MS = 1_769_247_000_000
TYPES = ("crm.contact.created", "crm.contact.deleted", "crm.deal.won", "form.submitted", "booking.created", "x.y.z")

# By agent of a site: triggers, and conditions.
KINDS: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
    (("event:contact.*",), {}),
    (
        ("event:crm.contact.created", "event:deal.won"),
        {"event:crm.contact.created": "data.score >= 50", "event:deal.won": "data.amount > 100.0"},
    ),
    (("event:form.submitted", "event:booking.*"), {"event:form.submitted": "data.tags.exists(tag, tag == 'vip')"}),
    (("event:*",), {"event:*": "data.score < 3 && !event.type.startsWith('auth.')"}),
)


def directory(sites: list[SiteId]) -> Directory:
    """Return a directory of active agents."""
    made = Directory.empty(1)
    for site in sites:
        for number in range(AGENTS_A_SITE):
            agent_id = agent_id_of(site, f"agent-{number}")
            triggers, conditions = KINDS[number % len(KINDS)]
            listener = Listener(agent_id, triggers, conditions, ever_active=True)
            made.listeners.setdefault(site, {})[agent_id] = listener
    return made


def records(sites: list[SiteId]) -> list[Record]:
    """Return events of these sites as they stand in the log."""
    chance = random.Random(1)  # noqa: S311 - a workload, no secret
    found = []
    for number in range(EVENTS):
        site = chance.choice(sites)
        data = {
            "score": chance.randrange(100),
            "amount": chance.uniform(0, 200),
            "tags": ["vip", "new"],
            "note": "x" * 400,
        }
        event = CloudEvent(
            id=f"e{number}",
            source="/crm",
            type=chance.choice(TYPES),
            time_ms=AT_MS,
            data=data,
            extensions={"siteid": site},
        )
        draft = to_draft(event, key=site.encode())
        found.append(Record(MODULE_EVENTS, 0, number, AT_MS, draft.key, draft.value, draft.headers))
    return found


def main() -> None:
    """Measure and tell."""
    sites = [SiteId(named_id("site", str(number))) for number in range(SITES)]
    known, read = directory(sites), records(sites)
    begun_s = time.process_time()
    triggers = [read_module_event(record, AT_MS) for record in read]
    read_s = time.process_time()
    woken = [known.listening(site_id, trigger) for site_id, _, trigger in triggers]
    matched_s = time.process_time()
    commands = [
        start_command(site_id, agent_id, correlation_id, trigger)
        for (site_id, correlation_id, trigger), ids in zip(triggers, woken, strict=True)
        for agent_id in ids
    ]
    done_s = time.process_time()
    print(
        f"{EVENTS} events, {SITES} sites, {SITES * AGENTS_A_SITE} agents, {len(commands)} commands, {known.unmet} unmet"
    )
    for name, seconds in (
        ("read", read_s - begun_s),
        ("matched", matched_s - read_s),
        ("asked", done_s - matched_s),
        ("all of it", done_s - begun_s),
    ):
        print(f"  {name:<10} {EVENTS / seconds:>10,.0f} events/s  {seconds / EVENTS * 1e6:7.1f} µs an event")


if __name__ == "__main__":
    main()
