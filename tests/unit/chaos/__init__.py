"""Tests of what the chaos tests judge by."""
