vllm serve THUDM/chatglm2-6b --chat-template ./examples/template_chatglm2.jinja --trust-remote-code --uvicorn-log-level warning --disable-log-stats
