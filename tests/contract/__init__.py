"""Tests that run the same against a stub and against the real thing."""
