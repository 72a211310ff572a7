# qwen: Qwen/Qwen2.5-0.5B-Instruct
# /run/vllm-manager/certificate is there in a pod only: put the files of the Secret qwen-tls there.
# Left to this machine, since a pod has a home of its own: HOME, TRITON_CACHE_DIR.
# Of spec.pod.patch only what it says of the engine's args and env is here.
# Without meaning for a single command: spec.ingress, spec.rollout, spec.catalog.
VLLM_NO_USAGE_STATS=1 \
vllm serve Qwen/Qwen2.5-0.5B-Instruct \
  --served-model-name Qwen/Qwen2.5-0.5B-Instruct \
  --enable-log-requests \
  --shutdown-timeout 30 \
  --ssl-certfile /run/vllm-manager/certificate/tls.crt \
  --ssl-keyfile /run/vllm-manager/certificate/tls.key \
  --enable-ssl-refresh \
  --disable-access-log-for-endpoints /health,/is_paused,/metrics,/metrics/
