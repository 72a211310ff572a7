"""Tests of vllm_operator.render."""
