from collections.abc import Generator

import pytest

from infra.health_check import failure_of, main, url_of
from tests.support.local_server import QuietHandler, serving


@pytest.mark.parametrize(
    ("part", "environment", "url"),
    [
        ("edge", {}, "http://127.0.0.1:8000/health/ready"),
        ("edge", {"TAPEWIRE_PORT": "81"}, "http://127.0.0.1:81/health/ready"),
        ("edge", {"TAPEWIRE_TLS_CERT": "/c.pem"}, "https://127.0.0.1:8000/health/ready"),
        ("worker", {"TAPEWIRE_METRICS_PORT": "9100"}, "http://127.0.0.1:9100/metrics"),
    ],
)
def test_a_part_is_asked_at_the_port_of_its_settings(
    part: str, environment: dict[str, str], url: str
) -> None:
    assert url_of(part, environment) == url


@pytest.mark.parametrize(
    ("part", "text"),
    [("painter", "it must be edge or worker"), ("worker", "TAPEWIRE_METRICS_PORT")],
)
def test_a_part_that_cannot_be_asked_is_refused_with_what_would_be_right(
    part: str, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        url_of(part, {})


class _Answers(QuietHandler):
    def do_GET(self) -> None:  # noqa: N802  # the library calls it
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()
        self.wfile.write(b"draining")


@pytest.fixture
def server() -> Generator[str]:
    with serving(_Answers) as address:
        yield address


def test_an_answer_of_200_is_no_failure_and_another_is_named_with_its_text(server: str) -> None:
    assert failure_of(f"{server}/ready") is None
    assert failure_of(f"{server}/other") == f"{server}/other answers 503: draining"


def test_a_part_that_does_not_answer_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAPEWIRE_PORT", "1")
    assert main(["edge"]) == 1
    assert "does not answer" in capsys.readouterr().out
