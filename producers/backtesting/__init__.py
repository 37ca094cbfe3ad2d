"""Backtests: a worker for backtest commands, strategies, and the prices that they run on."""
