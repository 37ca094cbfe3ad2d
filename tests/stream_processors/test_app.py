"""The worker's app: its agents, and the processors that a rebuilding worker leaves out."""

import subprocess
import sys
from dataclasses import fields

from mode import CrashingSupervisor

from schemas.events import BoardState, Book, BookRisk, SeriesState
from stream_processors.app import build_app
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of


async def test_a_worker_has_an_agent_for_each_processor() -> None:
    app = build_app(ProcessorSettings(topic_prefix="x."))
    assert set(app.agents) == {
        *("measure_returns", "measure_books", "form_candles", "tally_events", "total_windows"),
        *("follow_training.tasks", "follow_backtest.jobs"),
    }
    supervisor: object = app.conf.agent_supervisor
    assert supervisor is CrashingSupervisor
    assert app.conf.id == "x.tapewire"


def test_a_worker_without_portfolios_has_not_loaded_scipy() -> None:
    program = (
        "import sys; from stream_processors.app import build_app; "
        "from stream_processors.settings import ProcessorSettings; "
        "build_app(ProcessorSettings()); print([name for name in sys.modules if 'scipy' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.strip() == b"[]"


def test_no_two_processors_keep_their_state_in_one_topic() -> None:
    processors = processors_of(ProcessorSettings())
    states = [topic.name for processor in processors for topic in processor.states]
    assert len(states) == len(set(states))
    inputs = {topic.name for processor in processors for topic in processor.inputs}
    assert not inputs & set(states)


def test_every_state_has_room_for_its_tenant() -> None:
    states = {
        topic.record
        for processor in processors_of(ProcessorSettings())
        for topic in processor.states
    }
    # A board is its tenant's, and the rows of books have three more kinds.
    for record in (states - {BoardState}) | {Book, BookRisk, SeriesState}:
        tenant = {field.name: field for field in fields(record)}["tenant"]
        assert tenant.default is None, record


async def test_a_rebuilding_worker_only_measures_and_writes_under_its_version() -> None:
    settings = ProcessorSettings(topic_prefix="x.", rebuild_version="v2")
    app = build_app(settings)
    assert set(app.agents) == {"measure_returns"}
    assert app.conf.id == "x.v2.tapewire"
    [risk] = processors_of(settings)
    assert {topic.name for topic in risk.inputs} == {
        *("portfolio.returns", "risk.limits", "risk.acks", "risk.wanted", "risk.scenarios"),
    }
