"""The plain Faust idiom, as its tutorials have it: an event a message, a table, defaults.

It measures by the same pure code as the real worker, and keeps the same state, in a table.
"""

import sys
from typing import Any

import faust
import sdnotify

from schemas.codec import decode, encode
from schemas.events import ReturnBatch
from schemas.topics import PORTFOLIO_RETURNS, RISK_ALERTS, RISK_STATE
from stream_processors.messages import TopicPartition
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings


def build_app(settings: ProcessorSettings) -> faust.App:
    """One agent, and its table."""
    config = settings.risk_config()
    prefix = settings.topic_prefix
    app = faust.App(
        f"{prefix}plain",
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        store="memory://",
        topic_partitions=RISK_STATE.partitions,
        web_enabled=False,
    )

    def topic(name: str) -> Any:
        return app.topic(prefix + name, key_type=bytes, value_type=bytes, value_serializer="raw")

    alerts = topic(RISK_ALERTS.name)
    table = app.Table(
        "portfolios",
        key_type=bytes,
        value_type=bytes,
        changelog_topic=topic(RISK_STATE.name),
    )
    portfolios: dict[str, PortfolioRisk] = {}

    @app.agent(topic(PORTFOLIO_RETURNS.name))
    async def measure_returns(stream: Any) -> None:
        async for event in stream.events():
            batch = decode(event.value)
            assert isinstance(batch, ReturnBatch)
            for one in batch.returns:
                risk = portfolios.get(one.portfolio_id)
                if risk is None:
                    source = TopicPartition(event.message.topic, event.message.partition)
                    risk = PortfolioRisk(one.portfolio_id, config, source)
                    portfolios[one.portfolio_id] = risk
                _, raised = risk.apply(one, ReturnOffset(event.message.offset, 0))
                for alert in raised:
                    await alerts.send(key=one.portfolio_id.encode(), value=encode(alert))
                table[one.portfolio_id.encode()] = encode(risk.pack())

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(*_: object, **__: object) -> None:
        sdnotify.SystemdNotifier().notify("READY=1")

    return app


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--loglevel", "warn"]
    faust.Worker(build_app(ProcessorSettings()), loglevel="warn").execute_from_commandline()
