"""Run processors as a member of a group, with or without Faust.

The worker of `stream_processors.app` and the notifier join their groups in this way. The notifier
runs where Faust is not installed, so nothing here may import it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from kafka_io.group import GroupConsumer
from kafka_io.part_metrics import serve_metrics
from kafka_io.readiness import notify_ready
from kafka_io.software import member_client_id
from kafka_io.topic_admin import TopicAdmin, wait_until_answered
from schemas.topics import TopicPartition
from stream_processors.errors import TopicGrown
from stream_processors.kafka_adapter import GROUP, SESSION_TIMEOUT_S, check_topics, read_growths
from stream_processors.metrics import Progress, WorkerMetrics
from stream_processors.past_growths import repeat_growths
from stream_processors.processor import Processor, total_alerts
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import Tasks
from stream_processors.worker import Worker
from stream_processors.worker_name import default_name, held, wait_for_namesake


async def work(
    settings: ProcessorSettings,
    processors: Sequence[Processor],
    running: list[Worker],
    *,
    group: str = GROUP,
    ready: str = "measuring, judging and counting",
) -> None:
    """Run processors as a member of a group until cancelled.

    Args:
        settings: where Kafka is, and the name of the worker.
        processors: the processors.
        running: takes the worker, so that others can stop it.
        group: the group, without the prefix of topics.
        ready: what the worker does, for the line that says that it has begun.

    Raises:
        WorkerError, ProducerError: the worker cannot go on; the message says why.
    """
    metrics = WorkerMetrics()
    serve_metrics(settings, metrics.families)
    await wait_until_answered(settings.bootstrap_servers, "this worker", asyncio.Event())
    growths = await read_growths(settings.bootstrap_servers, settings.topic_prefix)
    if growths.unfinished is not None:
        growth = growths.unfinished
        raise TopicGrown(
            f"the topics of portfolios are growing from {growth.old_count} to {growth.new_count} "
            f"partitions; let `tapewire topics grow {growth.new_count}` finish, then start again"
        )
    tasks = Tasks(settings, processors, growths.count, metrics, group)
    await check_topics(settings, tasks.topics, growths.count)
    if settings.rebuild_version and not settings.rebuild_books:  # topics of books do not grow
        await repeat_growths(settings, processors, growths, metrics)
    prefix = settings.written_prefix()
    group, name = f"{prefix}{group}", f"{prefix}{settings.worker_id or default_name()}"
    members = partial(TopicAdmin(settings.bootstrap_servers).describe_members, group)
    with held(settings.bootstrap_servers, group, name):
        await wait_for_namesake(members, name, within_s=1.5 * SESSION_TIMEOUT_S)
        async with GroupConsumer(
            settings.bootstrap_servers,
            group,
            name,
            session_timeout_s=SESSION_TIMEOUT_S,
            client_id=member_client_id(),
        ) as consumer:
            metrics.stuck_s = lambda: consumer.stuck.ages_s
            kafka = tasks.kafka(consumer)
            worker = Worker(
                consumer,
                tasks.inputs,
                growths.count,
                tasks.make(kafka),
                kafka.leader_epochs,
                partial(notify_ready, ready),
            )
            metrics.progress = lambda: _progress(worker.committed, consumer.ends)
            metrics.open_alerts = partial(_open_alerts, processors)
            running.append(worker)
            await worker.run()


def _progress(
    done: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, Progress]:
    """Return how far each partition is processed that was fetched since it was assigned."""
    return {where: Progress(offset, ends[where]) for where, offset in done.items() if where in ends}


def _open_alerts(processors: Sequence[Processor]) -> Mapping[tuple[str, bool], int]:
    """Return the number of open alerts, if one of the processors raises any."""
    found = [alerts for processor in processors if (alerts := processor.open_alerts()) is not None]
    return total_alerts(found) if found else {}
