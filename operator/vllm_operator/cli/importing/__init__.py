"""`kubectl vllm import`: what serves a model with vLLM today, read into VLLMModels. No shell and no program is run."""
