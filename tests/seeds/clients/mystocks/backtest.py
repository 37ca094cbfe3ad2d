"""Reports a backtest, day by day."""

from app.core.sse_manager import get_sse_broadcaster


async def run_backtest(backtest_config: object) -> None:
    broadcaster = get_sse_broadcaster()
    backtest_id = f"backtest-{uuid.uuid4()}"
    days = pd.date_range(start_date, end_date)
    for index, day in enumerate(days):
        results = simulate_trading(day)
        await broadcaster.send_backtest_progress(
            backtest_id=backtest_id,
            progress=100.0 * (index + 1) / len(days),
            status="running",
            message=f"at {day}",
            current_date=str(day.date()),
            results={
                "total_return": results.total_return,
                "sharpe_ratio": results.sharpe_ratio,
                "max_drawdown": results.max_drawdown,
            },
        )
    await broadcaster.send_backtest_progress(
        backtest_id=backtest_id,
        progress=100.0,
        status="completed",
        message="is complete",
        results=final_results,
    )
