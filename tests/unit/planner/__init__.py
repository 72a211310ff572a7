"""Tests of vllm_operator.planner."""
