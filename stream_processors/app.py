"""Faust moves the events; what they mean is decided in the pure modules beside this one.

Seven agents:

- `measure_returns`: returns become measures and alerts, by limits that may change, and people
  acknowledge the alerts;
- `measure_books`: trees of books, such as desk, fund and firm, and what they hold;
- `follow_training.tasks`, `follow_backtest.jobs`: how far each task and job is, and where its
  story stands;
- `form_candles`: trades become candles;
- `tally_events`: what happens is counted for each partition and window;
- `total_windows`: a window's tallies become a `dashboard_update`.

What holds for ever: a record is acknowledged after everything that follows from it is in Kafka, in
this order: alerts and measures, state, acknowledgement. So a crash at any point loses nothing; what
is read again is skipped by the position in the state, or written again under the same id.

Faust acknowledges a record whose agent failed. Hence `noack_take`, acknowledging by hand, and a
supervisor under which an exception stops the worker.
"""

from tempfile import gettempdir
from typing import Any

import faust
import sdnotify
from mode import CrashingSupervisor

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
    """The worker's app: agents, table and timers, ready to be started."""
    app = faust.App(
        f"{settings.written_prefix()}tapewire",
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        store="memory://",
        datadir=f"{gettempdir()}/{settings.written_prefix()}tapewire-faust",  # made, and left empty
        topic_disable_leader=True,
        topic_allow_declare=False,  # the catalogue provisions, with its own settings
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
        consumer_metadata_max_age_ms=5_000,  # topics that are made later are seen soon
        producer_linger=0.01,
        producer_max_batch_size=1 << 19,
        # Records of open windows are held on purpose; whoever takes over reads them again.
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
        # At its default of 100 a take's worth of state rows stalls, with a warning for each.
        app.producer.buffer.max_messages = _BUFFERED_MESSAGES_MAX

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(*_: object, **__: object) -> None:
        sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=measuring, judging and counting")

    return app
