"""`dramac dlq`: records that could not be read, to look at and to send again."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from infra.cli.common import FAILED, JsonFlag, err, out, print_json, run, table
from infra.connections import open_log
from infra.places import kafka_alone
from infra.settings import Settings
from schemas.errors import ConfigurationError, NotFoundError, RecordTooLargeError, RefusedError
from schemas.message import JsonObject
from streams.records import format_time
from streams.redriving import Letter, find_letter, read_letters, redrive

PREVIEW_BYTES = 512
PREVIEW_CHARS = 60
CELL_CHARS = 24  # in a list
HEX_WIDTH = 16

app = typer.Typer(no_args_is_help=True)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="Of the letter: topic/partition/offset.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List what could not be read, the newest first, and whether it was sent again."""

    async def work(settings: Settings) -> None:
        async with open_log(settings, await kafka_alone(settings)) as log:
            letters = await read_letters(log)
        newest = letters[::-1][:limit]
        if as_json:
            print_json([_json(one) for one in newest])
            return
        shown = table("letter", "when", "bytes", "why", "begins", "sent again")
        for one in newest:
            letter = one.letter
            again = one.redriven.to if one.redriven is not None else ""
            error = letter.error[:PREVIEW_CHARS]
            begins = preview(letter.value, CELL_CHARS)
            size = str(len(letter.value or b""))
            shown.add_row(*map(_plain, (letter.id, format_time(letter.at_ms), size, error, begins, again)))
        out().print(shown if newest else "no dead letters")

    run(work)


@app.command("show")
def show(letter: LetterId, as_json: JsonFlag = False) -> None:
    """Show a dead letter: why, where it stood, its headers, and its bytes."""

    async def work(settings: Settings) -> None:
        async with open_log(settings, await kafka_alone(settings)) as log:
            found = await find_letter(log, letter)
        if as_json:
            print_json(_json(found))
        else:
            sys.stdout.write("\n".join(_told(found)) + "\n")

    run(work)


@app.command("redrive")
def redrive_(
    letter: Annotated[str | None, typer.Argument(metavar="ID", help="Of the letter: topic/partition/offset.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All whole ones not sent again yet, the oldest first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Send the exact record again, to its own topic and partition: once, and it is remembered."""

    async def work(settings: Settings) -> int:
        if (letter is None) is not all_:
            raise ConfigurationError("say what to redrive: a letter's id, or --all")
        async with open_log(settings, await kafka_alone(settings)) as log:
            if letter is not None:
                chosen = [await find_letter(log, letter)]
            else:
                chosen = [one for one in await read_letters(log) if one.redriven is None and one.letter.cut is None]
                _confirm(len(chosen), yes)
            told, failed = [], 0
            for one in chosen:
                try:
                    place = await redrive(log, one, f"user:{settings.user}")
                except (NotFoundError, RefusedError, RecordTooLargeError) as error:
                    if letter is not None:
                        raise
                    failed += 1  # what one letter says must not keep the others here
                    err().print(f"{one.letter.id}: not sent: {error}", markup=False)
                    continue
                told.append({"id": one.letter.id, "to": f"{one.letter.topic}/{place.partition}/{place.offset}"})
                if not as_json:
                    out().print(f"{told[-1]['id']}: sent again, now {told[-1]['to']}", markup=False)
        if as_json:
            print_json(told)
        elif not chosen:
            out().print("nothing to redrive")
        return FAILED if failed else 0

    run(work)


def _confirm(count: int, yes: bool) -> None:
    if yes or count == 0:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{count} records would be sent again: add --yes")
    typer.confirm(f"send {count} records again?", abort=True)


def _json(one: Letter) -> JsonObject:
    letter, again = one.letter, one.redriven
    return {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "at": format_time(letter.at_ms),
        "error": letter.error,
        "key": _bytes_json(letter.key),
        "value": _bytes_json(letter.value),
        "headers": [[name, _bytes_json(content)] for name, content in letter.headers],
        "cut": letter.cut,
        "redriven": None if again is None else {"at": format_time(again.at_ms), "by": again.by, "to": again.to},
    }


def _bytes_json(raw: bytes | None) -> str | JsonObject | None:
    """Return bytes as text where they are UTF-8, else in hex: nothing is lost."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"hex": raw.hex()}


# --- for people -----------------------------------------------------------------------------------------------------


def _told(one: Letter) -> list[str]:
    letter = one.letter
    lines = [
        f"letter   {_line(letter.id)}",
        f"when     {format_time(letter.at_ms)}",
        f"why      {_line(letter.error)}",
        f"stood in {_line(letter.topic)}, partition {letter.partition}, offset {letter.offset}",
        f"key      {preview(letter.key)}",
    ]
    if (again := one.redriven) is not None:
        lines.append(f"again    {_line(again.to)}, at {format_time(again.at_ms)}, by {_line(again.by)}")
    if letter.cut is not None:
        lines.append(f"cut      the record was too large for a letter: {_line(letter.cut)}; what follows begins it")
    lines += [f"header   {_line(name)}: {preview(content)}" for name, content in letter.headers]
    if letter.value is None:
        return [*lines, "value    none"]
    return [*lines, f"value    {len(letter.value)} bytes", *hexdump(letter.value)]


def hexdump(raw: bytes) -> list[str]:
    """Return the first PREVIEW_BYTES of `raw`: offset, hex, and what can be printed of it."""
    lines = []
    for at in range(0, min(len(raw), PREVIEW_BYTES), HEX_WIDTH):
        row = raw[at : at + HEX_WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):<{3 * HEX_WIDTH}} {text}")
    return lines if len(raw) <= PREVIEW_BYTES else [*lines, f"… {len(raw) - PREVIEW_BYTES} bytes more"]


def preview(raw: bytes | None, chars: int = PREVIEW_CHARS) -> str:
    """Return the beginning of `raw` in a line: text where it is some, else hex."""
    if raw is None:
        return "none"
    try:
        text = raw.decode()[: chars + 1]
    except UnicodeDecodeError:
        text = ""
    if text.isprintable() and (text or not raw):
        return text if len(text) <= chars else text[: chars - 1] + "…"
    begins = raw[: chars // 3].hex(" ")
    return begins if len(raw) <= chars // 3 else f"{begins} …"


def _line(text: str) -> str:
    """Return text in one line that can't command a terminal: it may come from anywhere."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _plain(text: str) -> str:
    return escape(_line(text))
