"""Records in memory: the tail, its windows, pieces for catching up, and tables."""
