"""Makes `kafka_jars.lock` for the Kafka that `kafka_jars.KAFKA_VERSION` names: `python -m infra.dev.kafka_lock`.

For maintainers: after a change of version, look at the difference before it is committed.
"""

import hashlib
import tempfile
from pathlib import Path

from infra.dev.kafka_jars import KAFKA_VERSION, LOCK

# slf4j-simple writes the log: it is 15 kB and loads in no time, and Kafka's slf4j is of this version.
WANTED = (("org.apache.kafka", "kafka_2.13", KAFKA_VERSION), ("org.slf4j", "slf4j-simple", "1.7.36"))


def main() -> None:
    """Resolve and fetch all jars, and write their coordinates, sizes in bytes and sha256."""
    from jgo.maven import Dependency, MavenContext  # comes with the extra `stack`

    with tempfile.TemporaryDirectory() as scratch:
        maven = MavenContext(repo_cache=Path(scratch))
        wanted = [
            Dependency(maven.project(group, artifact).at_version(version).artifact())
            for group, artifact, version in WANTED
        ]
        direct, transitive = maven.resolver.resolve(wanted)
        lines = set()
        for dependency in (*direct, *transitive):
            content = dependency.artifact.resolve().read_bytes()
            coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
            lines.add(f"{coordinate} {len(content)} {hashlib.sha256(content).hexdigest()}\n")
    LOCK.write_text("".join(sorted(lines)))


if __name__ == "__main__":
    main()
