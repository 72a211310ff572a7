vllm serve BAAI/bge-m3 --task embed --max-num-seqs 512
