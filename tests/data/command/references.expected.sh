# small: Qwen/Qwen2.5-0.5B-Instruct
# Left to this machine, since a pod has a home of its own: HOME, TRITON_CACHE_DIR.
VLLM_NO_USAGE_STATS=1 \
vllm serve Qwen/Qwen2.5-0.5B-Instruct \
  --served-model-name Qwen/Qwen2.5-0.5B-Instruct \
  --shutdown-timeout 30 \
  --disable-access-log-for-endpoints /health,/is_paused,/metrics,/metrics/

# llama: pvc://weights/llama
# POD_IP: field status.podIP of the pod. Set it before.
# HF_TOKEN: key token of Secret hub. Set it before.
# VLLM_API_KEY: an API key of your choice, which in a cluster the operator makes. Set it before.
# UNKNOWN: a key of Secret bucket. Set it before.
# EXTRA_KEY: key key of Secret extra. Set it if you want it.
# Export the keys of Secret bucket, with AWS_ before each.
# /mnt/claims/weights is there in a pod only: put what the PersistentVolumeClaim weights holds there.
# /etc/vllm/chat-template.jinja is there in a pod only: put the text of spec.model.chatTemplate.inline there.
# /adapters is there in a pod only: put what the volume adapters holds there.
# Only the first key of spec.auth is used: vLLM takes several as arguments alone, where everybody who sees the processes of the machine can read them.
# Left to this machine, since a pod has a home of its own: HOME, TRITON_CACHE_DIR.
# Without meaning for a single command: spec.replicas, spec.scheduling.
POD_IP="${POD_IP:?}" \
VLLM_NO_USAGE_STATS=1 \
HF_TOKEN="${HF_TOKEN:?}" \
VLLM_API_KEY="${VLLM_API_KEY:?}" \
ROOT='/it'"'"'s here' \
env \
OTHER.NAME='/it'"'"'s here/$(ROOT)/'"${UNKNOWN:?}"/"${HF_TOKEN:?}" \
vllm serve /mnt/claims/weights/llama \
  --served-model-name llama llama-8b \
  --chat-template /etc/vllm/chat-template.jinja \
  --max-model-len 32k \
  --shutdown-timeout 30 \
  --lora-modules sql=/adapters/sql \
  --enable-lora \
  --disable-access-log-for-endpoints /health,/is_paused,/metrics,/metrics/,/v1/models \
  --override-generation-config '{"a": "/it'"'"'s here"}' \
  '--root-path=/it'"'"'s here/$(ROOT)/'"${UNKNOWN}"/"${HF_TOKEN}" "${POD_IP}" '$HOME `x` !'
