#!/bin/bash
# A path that may be set or not, a port that is asked for first, and the command in a variable.
PORT=${PORT:-8000}
LOCAL_MODEL="${LOCAL_MODEL:-}"
HOLDER=$(lsof -t -i :$PORT)
if [ -n "$HOLDER" ]; then
  kill -9 $HOLDER
fi
CMD="vllm serve Qwen/Qwen3-8B --port $PORT"
if [ -n "$LOCAL_MODEL" ]; then
  CMD="$CMD --tokenizer $LOCAL_MODEL"
elif [ "$PORT" -eq 8000 ]; then
  CMD="$CMD --max-num-seqs 32"
else
  CMD="$CMD --max-num-seqs 8"
fi
nohup $CMD > vllm.log 2>&1 &
disown
