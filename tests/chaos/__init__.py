"""The operator in a world that fails at every step: `make chaos` runs all of it, `make test` a sample."""
