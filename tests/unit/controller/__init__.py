"""Tests of vllm_operator.controller."""
