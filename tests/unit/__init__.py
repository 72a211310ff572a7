"""Tests that need no cluster and no engine; they mirror the sources."""
