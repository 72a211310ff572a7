"""Docker Compose files that serve the same models."""
