"""`dramac worker` for tests: it notes what it begins, has a tool that can't be repeated, and may die at a named point.

python -m tests.chaos.worker --notes notes/1.jsonl --kill before-append:3 --roles decider
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from infra import connections, wiring
from infra.cli.main import main
from infra.models.scripted import ScriptedModel
from infra.modules.router import ToolRouter
from processors.models.port import ModelReply, ModelRequest
from processors.runtime import partition
from processors.runtime.partition import Partition
from processors.tools.port import ToolRequest, ToolResult
from processors.tools.registry import BUILTIN
from streams import kafka
from streams.kafka import KafkaLog
from streams.partitioner import partition_of
from tests.chaos.notes import Kind, Notes
from tests.chaos.points import arm
from tests.chaos.tools import COUNT_ONCE, OnceGateway

# What tests wait for: until a stopped worker's transaction is ended, until a group sees that its topic was made anew.
IDLE_IN_TRANSACTION_S = 2
METADATA_MS = 1_000


def note_beginnings(notes: Notes) -> None:
    """Note every model call and tool call before it begins, with what its partition's owner knew then."""
    partitions: dict[int, Partition] = {}
    since_ms: dict[int, int] = {}
    assigned, call, complete = Partition.assigned, ToolRouter.call, ScriptedModel.complete

    def noted_assigned(partition: Partition) -> None:
        partitions[partition.number] = partition
        since_ms[partition.number] = time.time_ns() // 1_000_000
        assigned(partition)

    def begin(kind: Kind, name: str, agent_id: str) -> None:
        count = int(os.environ["DRAMAC_PARTITIONS"])
        number = partition_of(agent_id.encode(), count)
        notes.add(kind, name, goal=partitions[number]._goal, since_ms=since_ms[number])

    async def noted_call(router: ToolRouter, request: ToolRequest) -> ToolResult:
        begin("tool", request.call_id, request.agent_id)
        return await call(router, request)

    async def noted_complete(model: ScriptedModel, request: ModelRequest) -> ModelReply:
        begin("model", f"{request.execution_id} {request.step}", request.agent_id)
        return await complete(model, request)

    _replace(Partition, assigned=noted_assigned)
    _replace(ToolRouter, call=noted_call)
    _replace(ScriptedModel, complete=noted_complete)


def _replace(owner: object, **replacements: Any) -> None:
    for name, replacement in replacements.items():
        getattr(owner, name)  # what is not there any more can't be replaced
        setattr(owner, name, replacement)


def run() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--roles", required=True)
    parser.add_argument("--kill", help="a point of tests.chaos.points, and at which of its turns: before-append:3")
    parser.add_argument("--session-s", type=float, required=True)
    parser.add_argument("--image-events", type=int, required=True, help="an image is due after so many events")
    given = parser.parse_args()
    notes = Notes(given.notes)
    note_beginnings(notes)
    if given.kill:
        name, _, count = given.kill.partition(":")
        arm(name, int(count), notes)
    _replace(partition, CHECKPOINT_EVENTS=given.image_events, LAST_CHECKPOINT_EVENTS=1)
    _replace(kafka, METADATA_MS=METADATA_MS)
    _replace(
        connections,
        IDLE_IN_TRANSACTION_S=IDLE_IN_TRANSACTION_S,
        KafkaLog=partial(KafkaLog, session_timeout_s=given.session_s),
    )
    _replace(
        wiring,
        BUILTIN=(*BUILTIN, COUNT_ONCE),
        ToolRouter=lambda gateways: ToolRouter({**gateways, "external": OnceGateway(notes)}),
    )
    sys.argv = ["dramac", "worker", "--roles", given.roles]
    main()


if __name__ == "__main__":
    run()
