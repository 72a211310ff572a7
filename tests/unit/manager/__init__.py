"""Tests of vllm_operator.manager."""
