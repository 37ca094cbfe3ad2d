"""Stream processors: pure calculations, and the Faust worker whose agents run them."""
