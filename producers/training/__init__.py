"""Training runs: a worker for training commands, a meter forecast and a digit classifier."""
