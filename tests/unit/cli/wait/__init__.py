"""Tests of `kubectl vllm wait`."""
