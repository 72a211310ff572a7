"""Real engines as the pods of a group: `make ranks`. They take minutes to load beside each other, so they run apart."""
