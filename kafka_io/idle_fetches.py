"""Let a consumer ask for new records less often while there are none.

A fetch that waits at the broker ends as soon as one of its partitions has a record, so it may wait
long. But a broker answers the requests of a connection one after the other: a partition that is
not in the fetch, since it is paused or its last records have not been taken, waits for its end. So
only a fetch of all partitions waits longer.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer

IDLE_WAIT_MS = 1_000
"""How long a fetch of all partitions waits. A partition that is sought or assigned meanwhile waits
for its end, too, so longer waits would make takeovers and restarts slow."""


def wait_longer_when_idle(consumer: AIOKafkaConsumer) -> None:
    """Let fetches of all partitions wait longer for a record; the consumer must be started."""
    fetcher: Any = consumer._fetcher  # noqa: SLF001  # aiokafka has one wait for all fetches
    usual_ms: int = fetcher._fetch_max_wait_ms  # noqa: SLF001  # as above
    find_requests = fetcher._get_actions_per_node  # noqa: SLF001  # as above

    def find_with_wait(assignment: Any) -> Any:
        # The requests are made with the present wait.
        is_whole = not fetcher._records and not any(  # noqa: SLF001  # what has not been taken
            assignment.state_value(where).paused for where in assignment.tps
        )
        fetcher._fetch_max_wait_ms = IDLE_WAIT_MS if is_whole else usual_ms  # noqa: SLF001  # as above
        return find_requests(assignment)

    fetcher._get_actions_per_node = find_with_wait  # noqa: SLF001  # as above
