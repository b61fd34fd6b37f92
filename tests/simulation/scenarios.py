"""How a world is troubled: what may go wrong, and how often."""

from dataclasses import dataclass, field

from tests.simulation.network import Weather

BAD = Weather(refused=0.04, unanswered=0.04, late=0.04, doubled=0.03, slow=0.05, unavailable=0.01)
SILENT = Weather(refused=0.01, unanswered=0.3, late=0.02, doubled=0.02, slow=0.3, unavailable=0.01)
LATE = Weather(refused=0.04, unanswered=0.03, late=0.12, doubled=0.02, slow=0.02, unavailable=0.01)
FOUL = Weather(refused=0.10, unanswered=0.10, late=0.10, doubled=0.08, slow=0.15, unavailable=0.04)


@dataclass(frozen=True)
class Scenario:
    """Weights of the faults that strike, one every few seconds; probabilities of what goes wrong by itself.

    Args:
        crash: SIGKILL at any step, now and then just when a write lands; started again later, as a new process.
        stop: an orderly end, and a new process later.
        freeze: SIGSTOP for up to 15 s, then SIGCONT.
        deaf: heartbeats don't arrive: the group gives away what the process goes on with.
        cut: the network to one process is cut.
        storm: rebalances, one after another.
        clock: the broker's clock steps back or forward.
        sleep: all machines sleep for an hour.
        poison: what can't be read, in any topic.
        compact: old images go, or all of them.
        gap: offsets without a record.
        crowd: everybody speaks at once.
        flaky: the probability that deciding a command fails on one process and not on another.
        trouble: how badly models and tools behave, from 0 to 1.
        partitions: how many, each with some of the agents.
        image_events: how many events are written between two images.
    """

    crash: float = 0
    stop: float = 0
    freeze: float = 0
    deaf: float = 0
    cut: float = 0
    storm: float = 0
    clock: float = 0
    sleep: float = 0
    poison: float = 0
    compact: float = 0
    gap: float = 0
    crowd: float = 0
    flaky: float = 0
    trouble: float = 0.2
    partitions: int = 2
    image_events: int = 25
    weather: Weather = field(default_factory=Weather)

    def weights(self) -> dict[str, float]:
        """Return the faults that strike, with their weights."""
        machines = ("crash", "stop", "freeze", "deaf", "cut", "storm", "clock", "sleep")
        kinds = (*machines, "poison", "compact", "gap", "crowd")
        return {kind: weight for kind in kinds if (weight := getattr(self, kind)) > 0}


SCENARIOS = {
    "calm": Scenario(poison=2, compact=1, gap=1, trouble=0.6),
    "crash": Scenario(crash=6, stop=1, compact=1, gap=0.5, weather=BAD),
    "zombie": Scenario(crash=1, freeze=3, deaf=4, cut=1, weather=BAD),
    "storm": Scenario(crash=2, stop=1, freeze=1, deaf=1, storm=6, weather=FOUL),
    "clock": Scenario(crash=1, deaf=1, clock=5, sleep=1, trouble=0.6, weather=BAD),
    "images": Scenario(crash=4, stop=2, freeze=1, compact=2, gap=1, image_events=5, weather=LATE),
    "flaky": Scenario(crash=0.5, deaf=5, crowd=8, compact=0.5, flaky=0.06, partitions=1, weather=SILENT),
    "all": Scenario(
        crash=3,
        stop=1,
        freeze=2,
        deaf=2,
        cut=1,
        storm=1,
        clock=1,
        sleep=0.3,
        poison=2,
        compact=1,
        gap=1,
        flaky=0.02,
        trouble=0.5,
        weather=FOUL,
    ),
}
