"""`dramac bench`: how many runs a second this machine decides, and what each of them costs."""

from typing import Annotated

import typer

from infra.bench.measure import Figures, measure, system_under_load
from infra.cli.common import FAILED, JsonFlag, err, out, print_json, run, table
from infra.dev.progress import terminal_progress
from infra.settings import Settings
from schemas.errors import ConfigurationError


def bench(
    concurrency: Annotated[str, typer.Option(help="Runs at a time; several figures separated by commas.")] = "1,64",
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long each is measured.")] = 10.0,
    agents: Annotated[int, typer.Option(min=1, max=1000, help="Agents that the runs are spread over.")] = 32,
    projections: Annotated[
        str, typer.Option(help="on: a projector writes the tables meanwhile; off: none does.")
    ] = "on",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes that share the partitions.")] = 1,
    bare: Annotated[
        bool, typer.Option("--bare", help="Measure afterwards what Kafka alone allows: the same records, undecided.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure a closed loop of runs, each of 4 model and 3 tool calls that take no time, on servers of its own."""

    async def work(settings: Settings) -> int:
        levels = parse_levels(concurrency)
        if projections not in ("on", "off"):
            raise ConfigurationError(f"--projections takes on or off, not {projections!r}")
        told: list[Figures] = []
        for is_bare in (False, True) if bare else (False,):
            wanted = projections == "on" and not is_bare
            async with system_under_load(wanted, workers, terminal_progress(err()), bare=is_bare) as system:
                for level in levels:
                    err().print(f"measuring {level} at a time for {seconds:g} s", style="dim")
                    told.append(await measure(system, concurrency=level, seconds=seconds, agents=agents))
        if as_json:
            print_json([figures.as_json() for figures in told])
        else:
            _print(told)
        return FAILED if any(figures.failed or not figures.runs for figures in told) else 0

    run(work)


def parse_levels(text: str) -> list[int]:
    """Return the concurrencies that `text` names.

    Raises:
        ConfigurationError: it names none, or something else.
    """
    named = [part.strip() for part in text.split(",") if part.strip()]
    if not named or not all(part.isdecimal() and 1 <= int(part) <= 10_000 for part in named):
        raise ConfigurationError(f"--concurrency takes numbers from 1 to 10000, separated by commas, not {text!r}")
    return [int(part) for part in named]


def _print(told: list[Figures]) -> None:
    shown = table("at a time", "runs/s", "p50", "p95", "p99", "projected", "CPU a run", "payload a run")
    for figures in told:
        cpu = ", ".join(f"{name} {spent:g} ms" for name, spent in figures.cpu_ms.items() if spent)
        shown.add_row(
            f"{figures.concurrency}{', bare' if figures.bare else ''}",
            f"{figures.runs_per_s:g}",
            f"{figures.p50_ms:g} ms",
            f"{figures.p95_ms:g} ms",
            f"{figures.p99_ms:g} ms",
            "" if figures.projected_per_s is None else f"{figures.projected_per_s:g}/s",
            cpu,
            f"{figures.bytes_a_run} bytes",
        )
    out().print(shown)
