vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 \
  --speculative-config '{"model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-70B", "method": "eagle3", "num_speculative_tokens": 3, "draft_tensor_parallel_size": 1}' \
  --max-num-seqs 128 --max-num-batched-tokens 8192
