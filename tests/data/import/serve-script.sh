#!/bin/bash
set -e
source /opt/venv/bin/activate
export HF_HOME=/mnt/nvme/huggingface
export VLLM_WORKER_MULTIPROC_METHOD=spawn
exec vllm serve "Qwen/Qwen2.5-Coder-32B-Instruct-AWQ" \
  --quantization awq_marlin \
  --max-model-len 32768 `# the whole of it` \
  --enable-prefix-caching \
  --enable-chunked-prefill
