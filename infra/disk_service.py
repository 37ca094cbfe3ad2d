"""`python -m infra.disk_service`: the metrics of the embedded broker's disk, as a service.

`tapewire up` shows them beside its parts; a broker that systemd runs has nobody else to do it.
"""

import signal
import sys

from infra.settings import InfraSettings
from infra.system_metrics import disk_families
from kafka_io.errors import InvalidSetting
from kafka_io.part_metrics import serve_metrics
from kafka_io.settings import MetricsSettings


def main() -> None:
    """Show the metrics until SIGTERM."""
    stopping = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    try:
        data_dir = InfraSettings().data_dir
        server = serve_metrics(MetricsSettings(), lambda: disk_families(data_dir))
    except InvalidSetting as error:
        sys.exit(f"a setting is invalid: {error}")
    if server is None:
        sys.exit("TAPEWIRE_METRICS_PORT is not set; it is the port that shows the metrics")
    signal.sigwait(stopping)
    server.shutdown()


if __name__ == "__main__":
    main()
