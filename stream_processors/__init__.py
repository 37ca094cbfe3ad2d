"""What follows from it: judgements that are pure, and an app that runs them."""
