"""Tests of what Python runs at the start of each process of an engine."""
