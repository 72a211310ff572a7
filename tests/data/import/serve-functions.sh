#!/bin/bash
# Functions that look whether all is there, and one that starts the server with what is set.
MODEL="Qwen/Qwen3-0.6B"
PORT=8100
check_port() {
    if netstat -tln | grep -q ":${PORT} "; then
        echo "port ${PORT} is taken"
        exit 1
    fi
}
check_vllm() {
    if ! pip show vllm &> /dev/null; then
        exit 1
    fi
}
start() {
    cmd="vllm serve $MODEL --port $PORT"
    if [ -n "$DTYPE" ]; then
        cmd="$cmd --dtype $DTYPE"
    fi
    nohup $cmd > server.log 2>&1 &
    sleep 5
    if ps -p $! > /dev/null; then
        echo started
    fi
}
check_port
check_vllm
start
