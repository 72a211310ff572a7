"""The manager of an engine's container."""
