"""`make demo`: from nothing to a model's answer, on a real cluster on this machine."""
