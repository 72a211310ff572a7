"""Tests of `kubectl vllm top`."""
