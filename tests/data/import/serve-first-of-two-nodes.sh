# Of two machines the first: four of eight ranks, on network devices of that machine.
export GLOO_SOCKET_IFNAME=enp1s0
export VLLM_HOST_IP=10.0.0.1
vllm serve Qwen/Qwen3-30B-A3B --data-parallel-size 8 --data-parallel-size-local 4 --api-server-count 2 \
  --data-parallel-address 10.0.0.1 --data-parallel-rpc-port 13345 --data-parallel-backend mp --enable-expert-parallel
