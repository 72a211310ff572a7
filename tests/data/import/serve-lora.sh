vllm serve meta-llama/Llama-3.2-3B-Instruct --enable-lora --lora-modules sql=/adapters/sql legal=org/legal-lora --max-loras 2 --max-lora-rank 64
