docker run --rm --gpus all `
  -v ${PWD}/.cache:/root/.cache `
  -p 8000:8000 `
  vllm/vllm-openai:v0.12.0 `
  --model Qwen/Qwen3-4B-Instruct-2507 `
  --max-model-len 8192
