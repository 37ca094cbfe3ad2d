"""Sinks write tables of events to files, each row of the log once."""
