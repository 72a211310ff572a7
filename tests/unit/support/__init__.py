"""Tests of the tests' own tools, where others build on what they promise."""
