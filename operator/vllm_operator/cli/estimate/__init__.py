"""`kubectl vllm estimate`: does a model fit into the GPUs that its spec asks for."""
