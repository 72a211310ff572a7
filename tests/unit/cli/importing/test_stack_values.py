"""Values of production-stack that tell LMCache something, or lead an Ingress to the chart's router."""

from __future__ import annotations

from typing import Any

import yaml

from tests.support.imports import Imported, imported

INGRESS = {
    "enabled": True,
    "className": "nginx",
    "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "300"},
    "hosts": [{"host": "llm.example.com", "paths": [{"path": "/", "pathType": "Prefix"}]}],
    "tls": [{"secretName": "llm-tls", "hosts": ["llm.example.com"]}],
}
UNCACHED = {"HF_HOME", "HF_TOKEN"}


def stack(*names: str, router: dict[str, Any] | None = None, **model: Any) -> Imported:
    """What comes of values with models of these names."""
    given = {"repository": "lmcache/vllm-openai", "tag": "v0.3.3", "modelURL": "a/b", "requestGPU": 1, **model}
    models = [{"name": name, **given} for name in names or ("chat",)]
    values: dict[str, Any] = {"servingEngineSpec": {"modelSpec": models}}
    return imported(yaml.safe_dump(values | ({"routerSpec": router} if router else {})))


def variables(result: Imported) -> dict[str, str]:
    """The engine's variables."""
    env = result.documents[0]["spec"]["engine"].get("env", [])
    return {one["name"]: one["value"] for one in env if one["name"] not in UNCACHED}


def test_disaggregation_is_told_to_lmcache() -> None:
    cache = {
        "enabled": True,
        "enablePD": True,
        "kvRole": "kv_producer",
        "enableNixl": True,
        "nixlRole": "sender",
        "nixlPeerHost": "decode",
        "nixlPeerPort": "55555",
        "nixlBufferSize": "1073741824",
        "nixlBufferDevice": "cuda",
        "nixlEnableGc": False,
    }
    result = stack(lmcacheConfig=cache)
    assert result.whole
    assert variables(result) == {
        "LMCACHE_USE_EXPERIMENTAL": "True",
        "VLLM_RPC_TIMEOUT": "1000000",
        "LMCACHE_LOCAL_CPU": "False",
        "LMCACHE_MAX_LOCAL_CPU_SIZE": "0",
        "LMCACHE_REMOTE_SERDE": "NULL",
        "UCX_TLS": "cuda_ipc,cuda_copy,tcp",
        "LMCACHE_ENABLE_NIXL": "True",
        "LMCACHE_NIXL_ROLE": "sender",
        "LMCACHE_NIXL_RECEIVER_HOST": "decode",
        "LMCACHE_NIXL_RECEIVER_PORT": "55555",
        "LMCACHE_NIXL_BUFFER_SIZE": "1073741824",
        "LMCACHE_NIXL_BUFFER_DEVICE": "cuda",
        "LMCACHE_NIXL_ENABLE_GC": "False",
    }
    assert result.documents[0]["spec"]["engine"]["kvTransferConfig"]["kv_connector_extra_config"] == {
        "discard_partial_chunks": False,
        "lmcache_rpc_port": "sender",
    }


def test_offloading_and_the_controller_are_told_to_lmcache() -> None:
    cache = {"enabled": True, "cpuOffloadingBufferSize": 30, "diskOffloadingBufferSize": "60", "instanceId": "one"}
    assert variables(stack(lmcacheConfig=cache)) == {
        "LMCACHE_USE_EXPERIMENTAL": "True",
        "VLLM_RPC_TIMEOUT": "1000000",
        "LMCACHE_LOCAL_CPU": "True",
        "LMCACHE_MAX_LOCAL_CPU_SIZE": "30",
        "LMCACHE_MAX_LOCAL_DISK_SIZE": "60",
        "LMCACHE_LMCACHE_INSTANCE_ID": "one",
    }


def test_what_the_chart_is_not_known_to_read_is_lost() -> None:
    result = stack(lmcacheConfig={"enabled": True, "nixlBackends": ["UCX"], "controllerPort": "9000"})
    lost = {line.split(": ")[2] for line in result.told if line.startswith("lost:")}
    assert lost == {"lmcacheConfig.nixlBackends", "lmcacheConfig.controllerPort"}


def test_what_the_chart_does_not_read_without_disaggregation_is_told() -> None:
    result = stack(lmcacheConfig={"enabled": True, "nixlRole": "sender"})
    assert result.whole
    assert any("lmcacheConfig.nixlRole is left out" in line for line in result.told)


def test_an_ingress_to_the_router_leads_to_the_one_model() -> None:
    result = stack(router={"ingress": INGRESS})
    assert result.whole
    assert result.documents[0]["spec"]["ingress"] == {
        "host": "llm.example.com",
        "className": "nginx",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "300"},
        "tls": {"secretName": "llm-tls"},
    }


def test_an_ingress_to_a_router_of_several_models_is_lost() -> None:
    result = stack("chat", "embed", router={"ingress": INGRESS})
    assert any(line.startswith("lost:") and "routerSpec.ingress" in line for line in result.told)
    assert all("ingress" not in one["spec"] for one in result.documents)


def test_an_ingress_of_several_hosts_is_lost() -> None:
    result = stack(router={"ingress": {**INGRESS, "hosts": INGRESS["hosts"] * 2}})  # type: ignore[operator]
    assert not result.whole


def test_a_host_that_nobody_has_filled_in_is_asked_for() -> None:
    hosts = [{"host": "llm.${ADDRESS}.nip.io", "paths": [{"path": "/"}]}]
    result = stack(router={"ingress": {**INGRESS, "hosts": hosts}})
    assert any("--set ADDRESS=VALUE" in line for line in result.told)
    assert not result.whole


def test_a_router_that_is_off_leads_nothing_anywhere() -> None:
    assert "ingress" not in stack(router={"enableRouter": False, "ingress": INGRESS}).documents[0]["spec"]
