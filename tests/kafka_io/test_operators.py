import getpass
import socket

import pytest

from kafka_io.operators import operator


def test_an_operator_is_the_user_and_the_host_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "desk-1")
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    assert operator() == "alice@desk-1"

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert operator() == "unknown@desk-1"
