"""`make demo`: from nothing to what a language model is for, on a real cluster on this machine."""
