"""LMCache in a values file of production-stack: the connector, and the variables by which LMCache is told the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.arguments import TRUE
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.importing.draft import Draft

_DISAGGREGATED: Final = {
    "enableNixl": "LMCACHE_ENABLE_NIXL",
    "nixlRole": "LMCACHE_NIXL_ROLE",
    "nixlPeerHost": "LMCACHE_NIXL_RECEIVER_HOST",
    "nixlPeerPort": "LMCACHE_NIXL_RECEIVER_PORT",
    "nixlBufferSize": "LMCACHE_NIXL_BUFFER_SIZE",
    "nixlBufferDevice": "LMCACHE_NIXL_BUFFER_DEVICE",
    "nixlEnableGc": "LMCACHE_NIXL_ENABLE_GC",
}
"""What the chart reads beside enablePD alone."""

_ALWAYS: Final = {
    "enableController": "LMCACHE_ENABLE_CONTROLLER",
    "instanceId": "LMCACHE_LMCACHE_INSTANCE_ID",
    "workerPort": "LMCACHE_WORKER_PORT",
    "workerPorts": "LMCACHE_LMCACHE_WORKER_PORTS",
    "p2pHost": "LMCACHE_P2P_HOST",
    "p2pInitPorts": "LMCACHE_P2P_INIT_PORTS",
    "workerHeartbeatTime": "LMCACHE_LMCACHE_WORKER_HEARTBEAT_TIME",
}
_OF_DISAGGREGATION: Final = {
    "LMCACHE_LOCAL_CPU": "False",
    "LMCACHE_MAX_LOCAL_CPU_SIZE": "0",
    "LMCACHE_REMOTE_SERDE": "NULL",
    "UCX_TLS": "cuda_ipc,cuda_copy,tcp",
}
_KNOWN: Final = frozenset(
    {"enabled", "enablePD", "kvRole", "cudaVisibleDevices", "cpuOffloadingBufferSize", "diskOffloadingBufferSize"}
    | {*_DISAGGREGATED, *_ALWAYS}
)


def arguments(model: Mapping[str, Any]) -> Iterator[str]:
    """The connector of a model's engine."""
    cache = part(model, "lmcacheConfig")
    if not cache.get("enabled"):
        return
    connector: dict[str, Any] = {"kv_connector": "LMCacheConnectorV1", "kv_role": cache.get("kvRole") or "kv_both"}
    if "enablePD" in cache:
        port = cache.get("nixlRole")
        connector["kv_connector_extra_config"] = {"discard_partial_chunks": False, "lmcache_rpc_port": port}
    yield from ("--kv-transfer-config", json.dumps(connector))


def environment(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The variables of a model's engine; one that is given twice holds as it stands last."""
    cache = part(model, "lmcacheConfig")
    found: dict[str, str] = {}
    if cache.get("enabled"):
        found |= {"LMCACHE_USE_EXPERIMENTAL": "True", "VLLM_RPC_TIMEOUT": "1000000"}
    if "cudaVisibleDevices" in cache:
        found["CUDA_VISIBLE_DEVICES"] = _text(cache["cudaVisibleDevices"])
    if _is_disaggregated(cache):
        found |= _OF_DISAGGREGATION | _given(cache, _DISAGGREGATED)
    if str(cache.get("cpuOffloadingBufferSize") or "0") != "0":
        found |= {"LMCACHE_LOCAL_CPU": "True", "LMCACHE_MAX_LOCAL_CPU_SIZE": _text(cache["cpuOffloadingBufferSize"])}
    if cache.get("diskOffloadingBufferSize"):
        found["LMCACHE_MAX_LOCAL_DISK_SIZE"] = _text(cache["diskOffloadingBufferSize"])
    found |= _given(cache, _ALWAYS)
    yield from ({"name": name, "value": value} for name, value in found.items())


def tell(model: Mapping[str, Any], draft: Draft) -> None:
    """What lmcacheConfig says and nothing carries over."""
    cache = part(model, "lmcacheConfig")
    for key in cache:
        if key in _DISAGGREGATED and not _is_disaggregated(cache):
            draft.note(f"lmcacheConfig.{key} is left out: the chart reads it beside enablePD alone")
        elif key == "controllerPort":
            draft.lost("lmcacheConfig.controllerPort: the controller is part of the chart's router")
        elif key not in _KNOWN:
            draft.lost(f"lmcacheConfig.{key}: what the chart makes of it is not known: see spec.engine.env")


def _is_disaggregated(cache: Mapping[str, Any]) -> bool:
    return _text(cache.get("enablePD", "")).lower() in TRUE


def _given(cache: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    return {name: _text(cache[key]) for key, name in names.items() if key in cache}


def _text(value: Any) -> str:
    return str(value)
