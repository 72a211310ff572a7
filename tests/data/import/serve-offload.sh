vllm serve Qwen/Qwen2.5-14B-Instruct --cpu-offload-gb 10 --kv-offloading-size 16 --swap-space 8 --seed 42
