"""The registry that the tests of this folder share."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.conftest import TestKafka
from tests.support.apicurio import Apicurio
from tests.support.certificates import Authority


@pytest.fixture(scope="session", name="authority")
def _authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no machine trusts of itself."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session", name="apicurio")
def _apicurio(
    kafka: TestKafka, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Apicurio]:
    """A registry whose journal is in the broker of the tests."""
    log = tmp_path_factory.mktemp("apicurio") / "registry.log"
    journal = f"schemas-{uuid4().hex[:8]}"
    registry = Apicurio(kafka.bootstrap_servers, journal, log, authority.server("127.0.0.1"))
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
