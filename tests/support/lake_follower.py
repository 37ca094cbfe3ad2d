"""A process that writes a lake from Kafka, which tests kill."""

import multiprocessing
from multiprocessing.context import ForkServerContext

from cli.lake_run import run_lake
from kafka_io.settings import ProducerSettings


def context() -> ForkServerContext:
    """Return where processes come from: a server that has read all libraries already."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(
        [
            "tests.support.lake_follower",
            "analytics.lake_rounds",
            "analytics.log_rows",
            "analytics.sinks.delta",
            "analytics.sinks.iceberg",
            "analytics.sinks.parquet",
        ]
    )
    return found


def follow(address: str, servers: str, prefix: str, *, once: bool) -> None:
    """Write the acknowledgements of a system."""
    settings = ProducerSettings(bootstrap_servers=servers, topic_prefix=prefix)
    run_lake(address, ["alert_ack"], settings, once=once)
