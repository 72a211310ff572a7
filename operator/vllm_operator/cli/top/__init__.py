"""`kubectl vllm top`: what engines compute now, out of their own metrics."""
