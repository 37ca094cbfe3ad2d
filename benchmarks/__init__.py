"""What the edge costs and how fast it is, beside two baselines, in one run."""
