"""The log as the edge reads it: records by topic, partition and offset."""
