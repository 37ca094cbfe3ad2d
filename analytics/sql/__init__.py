"""SQL over the lake and the log, by DuckDB."""
