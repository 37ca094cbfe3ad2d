"""Tumbling windows of counts, and candles of trades. Pure."""
