"""`kubectl vllm rollout`: what `kubectl rollout` is for Deployments, for VLLMModels."""
