"""Tests of `kubectl vllm status`."""
