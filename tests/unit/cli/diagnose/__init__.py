"""Tests of `kubectl vllm diagnose`."""
