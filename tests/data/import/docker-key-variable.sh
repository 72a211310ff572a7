docker run -d --gpus all -e VLLM_API_KEY=sk-local-0123456789abcdef -p 127.0.0.1:8000:8000 vllm/vllm-openai:v0.12.0 --model Qwen/Qwen2.5-7B-Instruct --max-model-len 8192
