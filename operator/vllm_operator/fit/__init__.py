"""Whether a model fits into the GPUs that a VLLMModel asks for, before a pod is made.

`config.read_model` reads what a config.json says, `settings.settings_of` what the spec says, and `estimate.estimate`
computes from both the memory of one GPU: weights, KV cache, activations. Everything is in bytes and pure; whoever calls
reads the files. Each formula names its source in the docstring of its function.
"""
