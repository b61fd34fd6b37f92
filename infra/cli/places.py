"""Where Kafka is, for commands that need nothing else."""

from infra.dev.stack import Endpoints, find_running
from infra.settings import Settings
from schemas.errors import UnavailableError


async def kafka_alone(settings: Settings) -> Endpoints:
    """Return where Kafka is, as set or of a running embedded stack; Postgres need not be anywhere.

    Raises:
        UnavailableError: there is none; it says how to start one.
    """
    if settings.kafka:
        return Endpoints(settings.kafka, settings.postgres_url or "")
    if (running := await find_running(settings.data_dir)) is None:
        raise UnavailableError(
            "nothing is running here: start `dramac dev` in another terminal, or set DRAMAC_KAFKA to use your own"
        )
    return running
