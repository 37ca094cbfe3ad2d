"""Topics with settings that others have given them."""

import asyncio
from collections.abc import Mapping

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]  # re-exported

from tests.conftest import World


async def configure(world: World, topics: Mapping[str, Mapping[str, str]]) -> None:
    """Set settings of a world's topics, given by their names in the catalogue."""
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            world.topic(topic),
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in settings.items()
            ],
        )
        for topic, settings in topics.items()
    ]
    for answer in admin.incremental_alter_configs(resources).values():
        await asyncio.to_thread(answer.result, 30)
