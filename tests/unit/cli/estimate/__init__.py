"""`kubectl vllm estimate`."""
