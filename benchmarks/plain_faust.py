"""A worker as in Faust's tutorials: one event per message, a table, and default settings.

It measures by the same pure calculations as the real worker, and keeps the same state in its table.
"""

import sys
from typing import Any

import faust

from kafka_io.readiness import notify_ready
from schemas.codec import decode, encode
from schemas.events import ReturnBatch
from schemas.topics import PORTFOLIO_RETURNS, RISK_ALERTS, RISK_STATE, TopicPartition
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings


def build_app(settings: ProcessorSettings) -> faust.App:
    """Return an app with one agent and its table."""
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
            for observation in batch.returns:
                risk = portfolios.get(observation.portfolio_id)
                if risk is None:
                    source = TopicPartition(event.message.topic, event.message.partition)
                    risk = PortfolioRisk(observation.portfolio_id, config, source)
                    portfolios[observation.portfolio_id] = risk
                _, raised = risk.apply(observation, ReturnOffset(event.message.offset, 0))
                for alert in raised:
                    await alerts.send(key=observation.portfolio_id.encode(), value=encode(alert))
                table[observation.portfolio_id.encode()] = encode(risk.pack())

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(*_: object, **__: object) -> None:
        notify_ready("ready")

    return app


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--loglevel", "warn"]
    faust.Worker(build_app(ProcessorSettings()), loglevel="warn").execute_from_commandline()
