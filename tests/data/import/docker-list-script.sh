#!/bin/bash
MODEL_PATH=/data/models/Qwen2.5-72B
MODEL_NAME="qwen2.5-72b"
GPUS="0,1,2,3"
ARGS=(--max-model-len 32768 --enforce-eager)
docker run -d \
  --gpus "\"device=${GPUS}\"" \
  --name ${MODEL_NAME} \
  -v ${MODEL_PATH}:/model \
  -p 8000:8000 \
  --restart=always \
  vllm/vllm-openai:v0.8.4 \
  --model /model --served-model-name ${MODEL_NAME} \
  --tensor-parallel-size 4 "${ARGS[@]}"
