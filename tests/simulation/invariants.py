from dataclasses import dataclass
@dataclass(frozen=True)
class Violation:
    rule: str
    text: str
def check(world, stuck):
    v = [Violation("I12", stuck)] if stuck else []
    v += [Violation("death", d) for d in world.deaths[:2]]
    v += [Violation("task", f"{t.get_name()} {t.exception()!r}") for t in world.loop.tasks if t.done() and not t.cancelled() and t.exception()][:3]
    v += [Violation("loop", d) for d in world.loop.failures[:3]]
    return v
