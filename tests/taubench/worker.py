"""`dramac worker` for the tasks, in a group that notices soon when one of its members was killed.

python -m tests.taubench.worker --roles decider,router,projector
"""

import sys
from functools import partial

from infra import connections
from infra.cli.main import main
from streams.kafka import KafkaLog

SESSION_S = 1.0  # the least that the embedded broker allows

if __name__ == "__main__":
    setattr(connections, "KafkaLog", partial(KafkaLog, session_timeout_s=SESSION_S))  # noqa: B010 - a class, for the checker
    sys.argv = ["dramac", "worker", *sys.argv[1:]]
    main()
