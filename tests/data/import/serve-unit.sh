[Unit]
Description=vLLM
After=network-online.target

[Service]
User=vllm
Environment="HF_HUB_OFFLINE=1"
Environment=VLLM_USE_V1=1
ExecStart=/opt/vllm/bin/vllm serve Qwen/Qwen2.5-7B-Instruct \
  --port 8000 --max-model-len 8192
Restart=on-failure

[Install]
WantedBy=multi-user.target
