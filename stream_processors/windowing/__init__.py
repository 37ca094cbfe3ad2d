"""Tumbling windows of counts for dashboards, and candles of trades. Pure."""
