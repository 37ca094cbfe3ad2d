"""Market data from packages: daily prices of stocks, and trades of Bitcoin."""
