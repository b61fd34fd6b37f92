"""`dramac topics`: creating our topics, and checking that they still are what they have to be."""

from dataclasses import asdict
from typing import Annotated

import typer

from infra.cli.common import FAILED, JsonFlag, out, print_json, run
from infra.places import kafka_alone
from infra.settings import EMBEDDED_PARTITIONS, Settings
from streams.kafka_topics import check_topics, create_topics

app = typer.Typer(no_args_is_help=True)

Partitions = Annotated[
    int | None,
    typer.Option("--partitions", min=1, max=1024, help="By default DRAMAC_PARTITIONS; 4 in the embedded stack."),
]
Replicas = Annotated[
    int | None,
    typer.Option("--replication-factor", min=1, max=10, help="By default DRAMAC_REPLICATION_FACTOR; 1 if embedded."),
]


@app.command("create")
def create(partitions: Partitions = None, replication_factor: Replicas = None, as_json: JsonFlag = False) -> None:
    """Create what is missing of our topics; what is there stays as it is."""

    async def work(settings: Settings) -> None:
        embedded = settings.kafka is None
        created = await create_topics(
            (await kafka_alone(settings)).kafka,
            partitions=_partitions(settings, partitions),
            replication_factor=replication_factor or (1 if embedded else settings.replication_factor),
            module_topics=settings.module_topics if embedded else (),
            security=settings.kafka_options(),
        )
        if as_json:
            print_json({"created": list(created)})
        else:
            out().print(f"created {', '.join(created)}" if created else "all topics are there", markup=False)

    run(work)


@app.command("check")
def check(partitions: Partitions = None, as_json: JsonFlag = False) -> None:
    """Check that our topics are there, and kept as they have to be."""

    async def work(settings: Settings) -> int:
        problems = await check_topics(
            (await kafka_alone(settings)).kafka,
            partitions=_partitions(settings, partitions),
            module_topics=settings.module_topics,
            security=settings.kafka_options(),
        )
        if as_json:
            print_json({"ok": not problems, "problems": [asdict(problem) for problem in problems]})
        else:
            for problem in problems:
                out().print(f"{problem.topic} {problem.text}", markup=False)
            if not problems:
                out().print("topics: OK")
        return FAILED if problems else 0

    run(work)


def _partitions(settings: Settings, given: int | None) -> int:
    return given or (EMBEDDED_PARTITIONS if settings.kafka is None else settings.partitions)
