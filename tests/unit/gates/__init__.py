"""Tests of vllm_operator.gates."""
