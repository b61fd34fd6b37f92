"""`dramac executions tail`: a run as a person watches it."""

import sys

from infra.cli.common import out, print_json_line
from infra.cli.events import as_cloudevent
from infra.cli.timeline import line
from infra.connections import open_log
from infra.finding import find_run
from infra.places import kafka_alone
from infra.settings import Settings
from infra.watching import watch_run
from schemas.envelope import EventEnvelope
from schemas.live import LivePiece


async def tail_run(settings: Settings, execution: str, as_json: bool) -> None:
    """Print a run's events and what its model says, until the run ends.

    Raises:
        NotFoundError: there is no such run.
    """
    endpoints = await kafka_alone(settings)
    async with open_log(settings, endpoints) as log:
        found = await find_run(log, endpoints, settings.site_id, execution)
        is_open, console = False, out()
        async for each in watch_run(log, found):
            if as_json:
                print_json_line(as_cloudevent(each) if isinstance(each, EventEnvelope) else _told(each))
            elif isinstance(each, EventEnvelope):
                if is_open:
                    sys.stdout.write("\n")
                is_open = False
                console.print(line(each))
            elif each.kind == "text" and each.text:
                sys.stdout.write(_plain(each.text) if is_open else f"  … {_plain(each.text)}")
                sys.stdout.flush()
                is_open = True


def _told(piece: LivePiece) -> dict[str, object]:
    return {"type": "ai.live", **piece.model_dump(mode="json")}


def _plain(text: str) -> str:
    """Return what a model says without what would steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)
