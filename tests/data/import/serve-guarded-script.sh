#!/usr/bin/env bash
set -euo pipefail
if [ -z "${HF_TOKEN:-}" ]; then
  echo "HF_TOKEN is not set" >&2
  exit 1
fi
MODEL="${VLLM_MODEL:-Qwen/Qwen2.5-32B-Instruct}"
PYTHON=/srv/venv/bin/python
echo "starting ${MODEL}"
"${PYTHON}" -m vllm.entrypoints.openai.api_server --model "${MODEL}" --port "${PORT:-8000}" --tensor-parallel-size 2
