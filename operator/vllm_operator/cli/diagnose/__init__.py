"""`kubectl vllm diagnose`: the whole story of a model, and what to do."""
