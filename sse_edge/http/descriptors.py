"""How many sockets a process may hold, by its limit of open files.

A process that reaches the limit cannot accept: clients wait without a word, and its own connections
to Kafka fail. So it refuses connections a little before.
"""

import resource

_RESERVED = 128
"""Descriptors for Kafka's connections, rendering processes, log files and the loop."""
_SOCKETS_MIN = 16


def raise_limit() -> int:
    """Raise the limit of open files as far as the system allows, and return how many sockets fit.

    Returns:
        The number of clients' sockets that the process may hold; at least 16.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):  # a hard limit without end, which some kernels refuse
            pass
    return max(_SOCKETS_MIN, soft - _RESERVED)
