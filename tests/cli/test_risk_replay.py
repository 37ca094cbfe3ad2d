from pathlib import Path

import pytest

from cli.errors import NoHistory
from cli.risk_replay import draw, newest_lap, table
from producers.market.prices import load_prices, trading_days
from schemas.events import ReturnBatch
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.replay import ReplayQuery, replay

ALL = [observation for day in trading_days(load_prices())[:400] for observation in day.at_close()]


def query(limit: float) -> ReplayQuery:
    return ReplayQuery(
        portfolio_id="AAPL",
        method="historical",
        level=ConfidenceLevel.of("0.95"),
        limit=limit,
        since_us=ALL[0].event_time_us,
        until_us=ALL[-1].event_time_us + 1,
    )


def test_the_table_has_each_transition_then_the_backtest() -> None:
    asked = query(0.05)
    result = replay(ALL, asked)
    lines = table(result, asked)
    assert lines[0].split() == ["date", "step", "level", "VaR", "limit"]
    rows = lines[1 : 1 + len(result.steps)]
    assert [row.split()[1] for row in rows] == [step.transition.kind for step in result.steps]
    assert rows[0].split()[:3] == ["2000-07-24", "raised", "breach"]
    assert any("days with a forecast" in line for line in lines)
    assert lines[-1].startswith("the worst day: 2000-09-29, -0.5")


def test_a_limit_that_was_never_exceeded_says_so() -> None:
    asked = query(9.0)
    assert "nothing would have alerted" in table(replay(ALL, asked), asked)


def test_of_a_replay_the_newest_lap_with_the_days_counts() -> None:
    asked = query(0.05)
    of_aapl = [value for value in ALL if value.portfolio_id == "AAPL"]
    whole, again = ReturnBatch(returns=of_aapl), ReturnBatch(returns=of_aapl, lap=1)
    begun = ReturnBatch(returns=of_aapl[:10], lap=2)
    assert newest_lap([whole, again, begun], asked) == again.returns
    assert replay(newest_lap([whole, again, begun], asked), asked) == replay(of_aapl, asked)
    assert newest_lap([], asked) == []


def test_a_picture_is_drawn_by_its_files_name(tmp_path: Path) -> None:
    asked = query(0.05)
    result = replay(ALL, asked)
    draw(result, asked, tmp_path / "a.png")
    draw(result, asked, tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(NoHistory, match=r"must end in \.png or \.svg"):
        draw(result, asked, tmp_path / "a.pdf")
    with pytest.raises(NoHistory, match="cannot be written"):
        draw(result, asked, tmp_path / "nowhere" / "a.png")
