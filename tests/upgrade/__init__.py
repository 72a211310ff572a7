"""What a new version of the operator does to models that run: nothing that replaces an engine."""
