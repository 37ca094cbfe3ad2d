"""HTTP below the routes: stream responses, the protocol, authentication, rate limits."""
