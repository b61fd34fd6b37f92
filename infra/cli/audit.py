"""`dramac audit`: whether what must hold does hold."""

import typer

from infra.audit import audit
from infra.cli.common import FAILED, JsonFlag, out, print_json, run
from infra.cli.events import progress_bar
from infra.connections import open_log, open_pool
from infra.places import endpoints_of
from infra.settings import Settings
from schemas.errors import UnavailableError
from streams.audit import Finding

app = typer.Typer(no_args_is_help=True)


@app.callback()
def root() -> None:
    """Invariants, checked from the log and the tables."""


@app.command("check")
def check(as_json: JsonFlag = False) -> None:
    """Check the invariants I1 to I8 over the whole log and all tables; exit with 1 if one does not hold."""

    async def work(settings: Settings) -> int:
        endpoints = await endpoints_of(settings)
        async with open_log(settings, endpoints) as log, open_pool(endpoints, size=1) as pool:
            try:
                with progress_bar("auditing") as advance:
                    findings = await audit(log, pool, advance)
            except TimeoutError as error:
                raise UnavailableError(f"{error}: try again") from error
        ok = all(finding.ok for finding in findings)
        if as_json:
            print_json({"ok": ok, "invariants": [finding.as_json() for finding in findings]})
        else:
            print_findings(findings)
        return 0 if ok else FAILED

    run(work)


def print_findings(findings: list[Finding]) -> None:
    """Print a line for each invariant, and its violations."""
    console = out()
    for finding in findings:
        mark = "[green]✓[/green]" if finding.ok else "[red]✗[/red]"
        counted = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in finding.counts.items())
        console.print(f"{mark} {finding.id} {finding.about}{f' ({counted})' if counted else ''}")
        for why in finding.violations:
            console.print(f"    {why}", markup=False)
        if finding.more:
            console.print(f"    … and {finding.more} more")
