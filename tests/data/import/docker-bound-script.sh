docker pull vllm/vllm-openai:v0.11.2
docker rm -f vllm 2>/dev/null || true
docker run -d --name vllm \
  --gpus all \
  -e HF_TOKEN \
  -e NCCL_P2P_DISABLE=1 \
  -m 64g --cpus 8 \
  -p 8000:8000 \
  vllm/vllm-openai:v0.11.2 \
  --model Qwen/Qwen3-30B-A3B-Instruct-2507 \
  --max-model-len 65536 --max-num-seqs 64 \
  --enable-expert-parallel
docker logs -f vllm
