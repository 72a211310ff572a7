"""Tests of vllm_operator.cli."""
