docker run --gpus all --rm -it --entrypoint vllm -v hf-cache:/root/.cache/huggingface -p 8000:8000 vllm/vllm-openai:v0.11.0 serve microsoft/Phi-4-mini-instruct --max-model-len 16384
