"""Where Kafka and Postgres are: as set, else those of a running embedded stack."""

from infra.dev.stack import Endpoints, find_running
from infra.settings import Settings
from schemas.errors import UnavailableError


async def endpoints_of(settings: Settings) -> Endpoints:
    """Return where both are.

    Raises:
        UnavailableError: one is nowhere; it says how to start it.
    """
    return await _find(settings, settings.kafka, settings.postgres_url, "DRAMAC_KAFKA and DRAMAC_POSTGRES")


async def kafka_alone(settings: Settings) -> Endpoints:
    """Return where Kafka is, for commands that need nothing else.

    Raises:
        UnavailableError: it is nowhere; it says how to start it.
    """
    return await _find(settings, settings.kafka, settings.postgres_url or "", "DRAMAC_KAFKA")


async def postgres_alone(settings: Settings) -> Endpoints:
    """Return where Postgres is, for commands that only read the tables.

    Raises:
        UnavailableError: it is nowhere; it says how to start it.
    """
    return await _find(settings, settings.kafka or "", settings.postgres_url, "DRAMAC_POSTGRES")


async def _find(settings: Settings, kafka: str | None, postgres: str | None, variables: str) -> Endpoints:
    if kafka is not None and postgres is not None:
        return Endpoints(kafka, postgres)
    running = await find_running(settings.data_dir)
    if running is None:
        raise UnavailableError(
            f"nothing is running here: start `dramac dev` in another terminal, or set {variables} to use your own"
        )
    return Endpoints(kafka or running.kafka, postgres or running.postgres)
