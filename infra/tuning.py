"""How the interpreter is set for long-running parts."""

import gc

# The loop makes many short-lived records and few cycles. At Python's default of 700 the collector runs hundreds of
# times a second and walks all live runs: a fifth of the CPU of a run (measured).
YOUNG = 50_000
MIDDLE, OLD = 20, 50


def tune_collector() -> None:
    """Let the collector run less often, and leave alone what the imports made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
