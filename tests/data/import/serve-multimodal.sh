vllm serve Qwen/Qwen2.5-VL-7B-Instruct --limit-mm-per-prompt image=4,video=1 --allowed-local-media-path / --mm-processor-kwargs '{"max_pixels": 1003520}'
