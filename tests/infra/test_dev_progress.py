import io

from rich.console import Console

from infra.dev.progress import terminal_progress


def test_without_a_terminal_every_note_is_one_line() -> None:
    output = io.StringIO()
    progress = terminal_progress(Console(file=output, force_terminal=False))
    progress.step("Kafka", 1, 10, "fetching [45 MB]")
    progress.step("Kafka", 2, 10, "fetching [45 MB]")
    progress.step("Postgres", note="starting")
    progress.step("Kafka", 1, 1, "ready")
    assert output.getvalue() == "Kafka: fetching [45 MB]\nPostgres: starting\nKafka: ready\n"


def test_on_a_terminal_finished_steps_stay() -> None:
    output = io.StringIO()
    progress = terminal_progress(Console(file=output, force_terminal=True, width=80))
    progress.step("Kafka", 1, 10, "fetching")
    progress.step("Postgres", note="starting")
    progress.step("Postgres", 1, 1, "ready in 0.2 s")
    progress.step("Kafka", 1, 1, "ready in 2.0 s")
    text = output.getvalue()
    assert "━" in text
    assert "✓" in text
    assert text.index("Postgres: ready in 0.2 s") < text.index("Kafka: ready in 2.0 s")


def test_a_step_may_finish_without_having_begun() -> None:
    output = io.StringIO()
    terminal_progress(Console(file=output, force_terminal=True)).step("Kafka", 1, 1, "prepared")
    assert "Kafka: prepared" in output.getvalue()


def test_what_did_not_finish_can_be_taken_away() -> None:
    output = io.StringIO()
    progress = terminal_progress(Console(file=output, force_terminal=True))
    progress.step("Kafka", note="starting")
    progress.close()
    assert output.getvalue().endswith(("\x1b[?25h", "\x1b[2K"))  # the cursor is back
    progress.step("Kafka", 1, 1, "ready")
    assert "Kafka: ready" in output.getvalue()
