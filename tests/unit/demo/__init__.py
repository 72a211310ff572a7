"""Tests of the demo's own parts."""
