"""Metrics of a node, and of all processes behind one port."""
