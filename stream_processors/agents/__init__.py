"""Faust agents: each reads batches of records, calls pure calculations and sends the results."""
