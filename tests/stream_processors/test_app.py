"""The worker's app: its agents, its tables, and the topics that a rebuilding worker leaves out."""

import faust
from mode import CrashingSupervisor

from stream_processors.app import build_app
from stream_processors.settings import ProcessorSettings


def read_by(app: faust.App, agent: str) -> set[str]:
    (found,) = (value for name, value in app.agents.items() if name.endswith(agent))
    return set(found.channel.topics)


async def test_a_worker_has_seven_agents_that_crash_it_when_they_fail() -> None:
    app = build_app(ProcessorSettings(topic_prefix="x."))
    assert {name.rsplit(".", 1)[-1] for name in app.agents if "follow" not in name} == {
        *("measure_returns", "measure_books", "form_candles", "tally_events", "total_windows"),
    }
    assert {name for name in app.agents if "follow" in name} == {
        *("follow_training.tasks", "follow_backtest.jobs"),
    }
    supervisor: object = app.conf.agent_supervisor
    assert supervisor is CrashingSupervisor
    assert app.conf.id == "x.tapewire"
    assert read_by(app, "measure_returns") == {
        *("x.portfolio.returns", "x.risk.limits", "x.risk.acks", "x.risk.wanted"),
        "x.risk.rebuilds",
    }


async def test_a_rebuilding_worker_only_measures_and_writes_under_its_version() -> None:
    app = build_app(ProcessorSettings(topic_prefix="x.", rebuild_version="v2"))
    assert len(app.agents) == 1
    assert read_by(app, "measure_returns") == {
        *("x.portfolio.returns", "x.risk.limits", "x.risk.acks", "x.risk.wanted"),
    }
    assert app.conf.id == "x.v2.tapewire"
    [table] = app.tables.values()
    assert list(table.changelog_topic.topics) == ["x.v2.risk.state"]
