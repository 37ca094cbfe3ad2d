"""`python -m infra.health_check PART`: exits with 0 if the part in this container works.

Container engines run it inside a container. An edge is asked for `/health/ready`, a worker for its
metrics, both on this container's own address, at the ports of the settings. Without an answer of
200 the exit code is 1.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

_PARTS = ("edge", "worker")
_TIMEOUT_S = 8.0
_PORT = "8000"


def url_of(part: str, environment: Mapping[str, str]) -> str:
    """Return the address that tells whether a part works.

    Args:
        part: `edge` or `worker`.
        environment: the part's environment variables.

    Raises:
        ValueError: there is no such part, or a worker serves no metrics.
    """
    if part == "edge":
        scheme = "https" if environment.get("TAPEWIRE_TLS_CERT") else "http"
        return f"{scheme}://127.0.0.1:{environment.get('TAPEWIRE_PORT') or _PORT}/health/ready"
    if part != "worker":
        raise ValueError(f"the part is {part}; it must be {' or '.join(_PARTS)}")
    port = environment.get("TAPEWIRE_METRICS_PORT")
    if not port:
        raise ValueError("TAPEWIRE_METRICS_PORT is not set; a worker without it cannot be asked")
    return f"http://127.0.0.1:{port}/metrics"


def failure_of(url: str) -> str | None:
    """Return why an address does not answer with 200; None if it does."""
    context = ssl.create_default_context()
    # The certificate is for the name that clients use, not for loopback.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S, context=context):  # noqa: S310  # http(s)
            return None
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}"
    except OSError as error:
        return f"{url} does not answer: {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the part, print why it does not work, and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        failure = failure_of(url_of(given[0] if given else "", os.environ))
    except ValueError as error:
        failure = str(error)
    if failure is not None:
        print(failure)
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
