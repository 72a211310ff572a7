"""`kubectl vllm wait`: until a model is as wanted, or until no waiting helps."""
