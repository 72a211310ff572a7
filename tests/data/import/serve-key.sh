export HF_TOKEN=hf_thisisnotarealtokenatall
vllm serve google/gemma-3-4b-it --api-key token-abc123 --served-model-name gemma
