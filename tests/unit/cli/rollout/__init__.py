"""Tests of `kubectl vllm rollout`."""
