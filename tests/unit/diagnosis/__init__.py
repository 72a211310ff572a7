"""Tests of vllm_operator.diagnosis."""
