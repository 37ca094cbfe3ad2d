import socket

import pytest

from kafka_io import software
from kafka_io.software import member_client_id, software_version
from tapewire import __version__


def test_the_version_is_that_of_the_package_or_unknown() -> None:
    assert software_version() in ("", __version__)


@pytest.mark.parametrize(("version", "name"), [("0.2.0", "tapewire-0.2.0"), ("", "tapewire")])
def test_a_member_of_a_group_names_its_version_and_host(
    version: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(software, "software_version", lambda: version)
    assert member_client_id() == f"{name}@{socket.gethostname()}"
