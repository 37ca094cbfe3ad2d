"""A notifier: a worker whose processors route events and send messages."""

import asyncio

from stream_processors.group_worker import work
from stream_processors.notifications.destinations import Destinations
from stream_processors.notifications.outbox import Outbox
from stream_processors.notifications.processors import RouteEvents, SendMessages
from stream_processors.notifications.route_table import RouteTable
from stream_processors.notifications.settings import NotifierSettings
from stream_processors.worker import Worker

GROUP = "tapewire-notifier"
"""The group of the notifiers, without the prefix of topics."""


async def run(settings: NotifierSettings, stop: asyncio.Event) -> None:
    """Run a notifier until it is to stop.

    Raises:
        WorkerError, ProducerError: it cannot go on; the message says why.
    """
    routes = RouteTable(settings.bootstrap_servers, settings.topic_prefix)
    running: list[Worker] = []
    try:
        async with (
            Destinations(settings) as destinations,
            Outbox(destinations, settings.notification_at_once) as outbox,
            asyncio.TaskGroup() as tasks,
        ):
            following = tasks.create_task(routes.run())
            await routes.complete()
            processors = (
                RouteEvents(routes),
                SendMessages(routes, outbox, settings.notification_retry_s),
            )
            working = tasks.create_task(
                work(
                    settings,
                    processors,
                    running,
                    group=GROUP,
                    ready="sending alerts and ends of runs",
                )
            )
            await stop.wait()
            for worker in running:
                await worker.stop()
            working.cancel()
            following.cancel()
    except ExceptionGroup as errors:  # of which each would have ended the notifier
        raise errors.exceptions[0] from None
