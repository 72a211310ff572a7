MODEL=${MODEL:-mistralai/Mistral-7B-Instruct-v0.3}
vllm serve $MODEL --tokenizer-mode mistral --config-format mistral --load-format mistral --max-model-len ${MAX_LEN}
