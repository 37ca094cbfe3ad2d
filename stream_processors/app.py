"""Build the worker: a Faust app whose agents move records, and call pure calculations.

Seven agents:

- `measure_returns`: returns, limits and acknowledgements in, measures and alerts out;
- `measure_books`: books and the returns of their series in, each book's risk out;
- `follow_training.tasks`, `follow_backtest.jobs`: events of runs in, each run's status and offsets
  out;
- `form_candles`: trades in, candles out;
- `tally_events`: events in, tallies by partition and window out;
- `total_windows`: tallies in, a `dashboard_update` for each window out.

It always holds that a record is acknowledged after everything that follows from it is in Kafka, in
this order: alerts and measures, state, acknowledgement. So a crash at any point loses nothing: a
record that is read again is skipped by the offset in the state, or its events are written again
under the same ids.

Faust itself acknowledges a record even if its agent failed. Hence the agents acknowledge by hand,
and their supervisor stops the worker at an exception.
"""

from tempfile import gettempdir
from typing import Any

import faust
import sdnotify
from mode import CrashingSupervisor

from kafka_io.client import faust_brokers
from schemas.topics import (
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    PARTITIONS,
    TRAINING_EVENTS,
    TRAINING_TASKS,
)
from stream_processors.agents.books import add_books
from stream_processors.agents.candles import add_candles
from stream_processors.agents.dashboard import add_dashboard
from stream_processors.agents.lifecycle import add_lifecycle, job_state, task_state
from stream_processors.agents.risk import add_risk
from stream_processors.faust_adapter import (
    IdempotentProducer,
    PromptTables,
    RewindingConsumer,
    Writer,
)
from stream_processors.settings import ProcessorSettings

_BUFFERED_MESSAGES_MAX = 100_000


def build_app(settings: ProcessorSettings) -> faust.App:
    """Return the worker's app with agents, tables and timers, ready to start."""
    app = faust.App(
        f"{settings.written_prefix()}tapewire",
        broker=faust_brokers(settings.bootstrap_servers),
        store="memory://",
        # Faust creates it; it stays empty.
        datadir=f"{gettempdir()}/{settings.written_prefix()}tapewire-faust",
        topic_disable_leader=True,
        topic_allow_declare=False,  # topics are provisioned with the catalogue's settings
        topic_partitions=PARTITIONS,
        web_enabled=False,
        worker_redirect_stdouts=False,
        agent_supervisor=CrashingSupervisor,
        TableManager=PromptTables,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=1.0,
        consumer_group_instance_id=f"{settings.written_prefix()}{settings.worker_id}",
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=5_000,  # finds topics that are created later
        producer_linger=0.01,
        producer_max_batch_size=1 << 19,
        # A rebalance does not wait for unprocessed records: their next worker reads them again.
        stream_wait_empty=False,
        table_standby_replicas=0,
        cython_optimizations=True,
    )
    transport: Any = app.transport
    transport.Consumer, transport.Producer = RewindingConsumer, IdempotentProducer
    writer = Writer(app, settings)
    add_risk(app, settings, writer)
    if not settings.rebuild_version:
        add_books(app, settings, writer)
        add_lifecycle(app, writer, TRAINING_EVENTS, TRAINING_TASKS, task_state)
        add_lifecycle(app, writer, BACKTEST_EVENTS, BACKTEST_JOBS, job_state)
        add_candles(app, writer)
        add_dashboard(app, settings, writer)

    @app.task
    async def widen_the_producer_buffer() -> None:
        # At the default of 100 the state rows of one batch would stall, with a warning for each.
        app.producer.buffer.max_messages = _BUFFERED_MESSAGES_MAX

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(*_: object, **__: object) -> None:
        sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=measuring, judging and counting")

    return app
