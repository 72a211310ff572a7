nohup python -u -m vllm.entrypoints.openai.api_server --model /data/models/chatglm3-6b --served-model-name chatglm3-6b --trust-remote-code --max-model-len 8192 > vllm.log 2>&1 &
