"""kubectl-vllm: what people type."""
