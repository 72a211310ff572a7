"""Tests of vllm_operator.api."""
