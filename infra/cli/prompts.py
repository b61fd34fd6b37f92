"""What a model was asked: made again from the log, and compared with the sha256 that stands there."""

from infra.cli.common import FAILED, err, out, print_json
from infra.connections import open_log
from infra.finding import find_run
from infra.places import kafka_alone
from infra.settings import Settings
from processors.runtime.replay import Prompt, prompt_of
from streams.log import Record
from streams.partitioner import partition_of
from streams.replay import read_span
from streams.topics import EVENTS


async def show_prompt(settings: Settings, execution: str, step: int, as_json: bool) -> int:
    """Print the prompt of a run's step; return 1 if it is not the one whose sha256 was recorded.

    Raises:
        NotFoundError: there is no such run or step.
    """
    endpoints = await kafka_alone(settings)
    async with open_log(settings, endpoints) as log:
        found = await find_run(log, endpoints, settings.site_id, execution)
        partition, key = partition_of(found.agent_id.encode(), await log.partitions(EVENTS)), found.agent_id.encode()
        held: list[Record] = []
        async for records in read_span(log, EVENTS, partition, await log.bounds(EVENTS, partition)):
            held += [record for record in records if record.key == key]
    prompt = prompt_of(held, found.agent_id, found.execution_id, step)
    if as_json:
        print_json(_json(prompt))
    else:
        _print(prompt)
    return 0 if prompt.is_the_recorded_one else FAILED


def _json(prompt: Prompt) -> dict[str, object]:
    return {
        "step": prompt.step,
        "messages": [message.model_dump(mode="json") for message in prompt.messages],
        "tools": [tool.model_dump(mode="json") for tool in prompt.tools],
        "sha256": prompt.sha256,
        "recorded_sha256": prompt.recorded_sha256,
        "is_the_recorded_one": prompt.is_the_recorded_one,
    }


def _print(prompt: Prompt) -> None:
    console = out()
    for message in prompt.messages:
        console.print(f"[bold]{message.role}[/bold]")
        console.print(message.content, markup=False)
        for call in message.tool_calls:
            console.print(f"→ {call.name} {call.arguments}", markup=False)
        console.print()
    offered = ", ".join(f"{tool.name}@{tool.version}" for tool in prompt.tools) or "none"
    console.print(f"tools: {offered}", markup=False)
    if prompt.is_the_recorded_one:
        err().print(f"sha256 {prompt.sha256}: as recorded")
    else:
        err().print(
            f"[red]error:[/red] sha256 {prompt.sha256}, and {prompt.recorded_sha256} was recorded: this release makes "
            "another prompt of the same log"
        )
