CUDA_VISIBLE_DEVICES=0,1,2,3 VLLM_LOGGING_LEVEL=DEBUG vllm serve deepseek-ai/DeepSeek-R1-Distill-Qwen-32B -tp 4 --enable-reasoning --reasoning-parser deepseek_r1 --enforce-eager
