"""Risk of one portfolio: measures, model tests, thresholds and alerts. Pure."""
