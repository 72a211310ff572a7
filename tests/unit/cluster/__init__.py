"""Tests of vllm_operator.cluster."""
