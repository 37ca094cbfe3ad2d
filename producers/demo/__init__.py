"""The demo: real price history replayed as returns, with training runs and backtests."""
