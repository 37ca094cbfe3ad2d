"""Build the worker: a Faust app with an agent for each processor, and the tasks that feed them.

Seven processors:

- `measure_returns`: returns, limits and acknowledgements in, measures and alerts out;
- `measure_books`: books and the returns of their series in, each book's risk out;
- `follow_training.tasks`, `follow_backtest.jobs`: events of runs in, each run's status and offsets
  out;
- `form_candles`: trades in, candles out;
- `tally_events`: events in, tallies by partition and window out;
- `total_windows`: tallies in, a `dashboard_update` for each window out.

It always holds that what follows from a record is in Kafka together with the offset after it, once,
or not at all: see `stream_processors.stream_task`.
"""

import atexit
import logging
from tempfile import TemporaryDirectory

import faust
from mode import CrashingSupervisor

from kafka_io.client import faust_brokers
from kafka_io.errors import ProducerError
from stream_processors.errors import WorkerError
from stream_processors.faust_adapter import AgentProcessor, WorkerApp
from stream_processors.group_worker import work
from stream_processors.kafka_adapter import BOOKS_GROUP, GROUP
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of
from stream_processors.worker import Worker

logger = logging.getLogger(__name__)


def _private_folder() -> str:
    """Return a new folder that only this user can use, and that is removed at the end."""
    folder = TemporaryDirectory(prefix="tapewire-faust-")
    atexit.register(folder.cleanup)
    return folder.name


def build_app(settings: ProcessorSettings) -> faust.App:
    """Return the worker's app, ready to start."""
    app = WorkerApp(
        f"{settings.written_prefix()}tapewire",
        broker=faust_brokers(settings.bootstrap_servers),
        store="memory://",
        datadir=str(settings.work_dir or _private_folder()),  # Faust creates it; it stays empty
        web_enabled=False,
        worker_redirect_stdouts=False,
        agent_supervisor=CrashingSupervisor,
        cython_optimizations=True,
    )
    processors = [AgentProcessor(app, processor) for processor in processors_of(settings)]
    running: list[Worker] = []

    @app.task
    async def run_worker() -> None:
        app.flow_control.resume()  # Faust would do so after a rebalance of its own consumer
        try:
            group = BOOKS_GROUP if settings.rebuild_books else GROUP
            await work(settings, processors, running, group=group)
        except (WorkerError, ProducerError) as error:
            logger.critical("this worker stops: %s", error)
            await app.crash(error)
        except Exception as error:
            logger.exception("this worker stops")
            await app.crash(error)

    @app.on_before_shutdown.connect(weak=False)
    async def finish(*_: object, **__: object) -> None:
        for worker in running:
            await worker.stop()

    return app
