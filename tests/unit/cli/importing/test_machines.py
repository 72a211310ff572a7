"""What a machine gives a server without saying so in a pod's words: devices, network, ports, folders, memory."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.imports import Imported, imported

IMAGE = "vllm/vllm-openai:v0.12.0"
DOCKER = f"docker run --gpus all %s {IMAGE} --model a/b %s"


def of_one(text: str) -> tuple[dict[str, Any], Imported]:
    """The spec of the one model in a text, and what is told."""
    found = imported(text)
    (document,) = found.documents
    return document["spec"], found


def service(**fields: Any) -> str:
    """A Compose file with one service."""
    lines = [f"    {name}: {value}\n" for name, value in ({"image": IMAGE} | fields).items()]
    return f"services:\n  llm:\n{''.join(lines)}"


def docker(options: str = "", arguments: str = "") -> str:
    """A `docker run` line."""
    return DOCKER % (options, arguments)


def told(found: Imported, level: str, *words: str) -> list[str]:
    """Lines of a level that hold every one of the words."""
    return [line for line in found.told if line.startswith(f"{level}: ") and all(word in line for word in words)]


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("docker run --device /dev/dri intel/vllm:0.21.0-ubuntu24.04 vllm serve a/b", "xpu"),
        ("docker run intel/vllm:0.21.0-ubuntu24.04 vllm serve a/b", "xpu"),
        ("docker run --device /dev/dri:/dev/dri own/serving:1 vllm serve a/b", "xpu"),
        (service(image="own/serving:1", devices="[/dev/dri]", command="vllm serve a/b"), "xpu"),
        (service(image="intel/vllm:0.21.0", command="vllm serve a/b"), "xpu"),
        ("docker run --device /dev/kfd --device /dev/dri own/serving:1 vllm serve a/b", "amd"),
        ("docker run --device /dev/dri --device /dev/kfd own/serving:1 vllm serve a/b", "amd"),
        ("docker run --device /dev/dri own/vllm-rocm:1 vllm serve a/b", "amd"),
        ("docker run --device /dev/dri own/vllm-cpu:1 vllm serve a/b", "cpu"),
        ("docker run --device /dev/davinci0 own/serving:1 vllm serve a/b", "ascend"),
        ("docker run --device /dev/neuron0 own/serving:1 vllm serve a/b", "neuron"),
        ("vllm serve a/b --quantization ascend", "ascend"),
        ("export HCCL_IF_IP=1.2.3.4\nvllm serve a/b", "ascend"),
        ("HCCL_OVER_OFI=1 PT_HPU_LAZY_MODE=1 vllm serve a/b", "gaudi"),
        ("HIP_VISIBLE_DEVICES=0 vllm serve a/b", "amd"),
        (f"docker run -e HCCL_BUFFSIZE=1 {IMAGE} --model a/b", None),
        ("docker run --gpus all --device /dev/dri own/serving:1 vllm serve a/b", None),
        ("docker run --runtime nvidia --device /dev/dri own/serving:1 vllm serve a/b", None),
        (service(image="own/serving:1", runtime="nvidia", devices="[/dev/dri]", command="vllm serve a/b"), None),
        (f"docker run --device /dev/dri {IMAGE} --model a/b", None),
        ("vllm serve a/b", None),
    ],
)
def test_the_accelerator_is_the_one_that_devices_image_and_settings_tell(text: str, profile: str | None) -> None:
    spec, _ = of_one(text)
    assert spec.get("accelerator", {}).get("profile") == profile


NETWORK = ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "UCX_NET_DEVICES", "NCCL_IB_HCA"]


@pytest.mark.parametrize("name", [*NETWORK, "HCCL_SOCKET_IFNAME", "VLLM_HOST_IP"])
@pytest.mark.parametrize(
    "text",
    [
        docker("--net=host -e {}=enp1s0"),
        service(network_mode="host", environment="['{}=enp1s0']", command="--model a/b"),
        "{}=enp1s0 vllm serve a/b",
    ],
)
def test_the_network_devices_of_a_machine_are_not_those_of_a_pod(text: str, name: str) -> None:
    spec, found = of_one(text.replace("{}", name))
    assert "env" not in spec.get("engine", {})
    assert told(found, "note", f"{name} is left out")
    assert found.whole


def test_all_network_devices_are_those_of_any_pod() -> None:
    spec, _ = of_one(docker("-e UCX_NET_DEVICES=all"))
    assert spec["engine"]["env"] == [{"name": "UCX_NET_DEVICES", "value": "all"}]


def test_a_pod_in_the_network_of_its_node_keeps_them() -> None:
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {hostNetwork: true, containers: [{name: vllm, "
        f"image: '{IMAGE}', args: [--model, a/b], env: [{{name: NCCL_SOCKET_IFNAME, value: eth1}}]}}]}}"
    )
    spec, _ = of_one(pod)
    assert spec["engine"]["env"] == [{"name": "NCCL_SOCKET_IFNAME", "value": "eth1"}]


@pytest.mark.parametrize(
    "text",
    [
        docker("--device /dev/infiniband"),
        docker("--device=/dev/infiniband/uverbs0 --device /dev/infiniband/rdma_cm"),
        service(devices="['/dev/infiniband:/dev/infiniband']", command="--model a/b"),
    ],
)
def test_which_resource_rdma_devices_are_is_asked_for_once(text: str) -> None:
    _, found = of_one(text)
    assert len(told(found, "check", "/dev/infiniband", "spec.resources.limits")) == 1


def test_the_resource_of_rdma_devices_may_stand_where_it_is_asked_for() -> None:
    limits = "{limits: {nvidia.com/gpu: 1, rdma/hca_shared_devices_a: 1}}"
    spec, found = of_one(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: vllm, "
        f"image: '{IMAGE}', args: [--model, a/b], resources: {limits}}}]}}"
    )
    assert spec["resources"]["limits"] == {"rdma/hca_shared_devices_a": 1}
    assert found.whole


def test_devices_that_the_profile_brings_are_a_note() -> None:
    devices = " ".join(f"--device /dev/{name}" for name in ("davinci0", "davinci1", "davinci_manager", "hisi_hdc"))
    _, found = of_one(f"docker run {devices} quay.io/ascend/vllm-ascend:v0.11.0 vllm serve a/b -tp 2")
    assert len(told(found, "note", "ascend")) == 1
    assert found.whole


@pytest.mark.parametrize(
    ("text", "port"),
    [
        (service(command="--model a/b --port 8001"), 8001),
        (service(command="--model a/b --port 8001", ports="['9000:8001']"), 9000),
        (docker("--net=host", "--port 9000"), 9000),
        (docker("-p 7000:7000 --net=host", "--port 9000"), 9000),
        (docker("--net=host -p 7000:7000", "--port 9000"), 9000),
        (docker("-p 80:8000"), 80),
        (docker(), None),
        ("vllm serve a/b --port 8011", 8011),
        ("vllm serve a/b", None),
    ],
)
def test_clients_keep_the_port_that_they_know(text: str, port: int | None) -> None:
    spec, found = of_one(text)
    assert spec.get("service", {}).get("port") == port
    assert found.whole


@pytest.mark.parametrize(
    "text", [docker("-p 9998:8000", "--port 8001"), service(command="--model a/b --port 8001", ports="['9998:8000']")]
)
def test_a_port_behind_which_nothing_listens_is_asked_for(text: str) -> None:
    spec, found = of_one(text)
    assert told(found, "check", "the port 9998 led to 8000", "8001")
    assert spec["service"]["port"] == 8001


def test_a_port_that_nobody_has_filled_in_is_the_published_one() -> None:
    spec, found = of_one(docker("-p 80:$PORT", "--port $PORT"))
    assert told(found, "check", "set spec.engine.port")
    assert "service" not in spec
    spec, found = of_one(docker("-p 80:8080", "--port $PORT"))
    assert spec["service"]["port"] == 80
    assert not told(found, "check", "where nothing is known to listen")


def test_a_second_port_of_the_server_is_lost_aloud() -> None:
    spec, found = of_one(docker("-p 80:8000 -p 81:8000"))
    assert spec["service"]["port"] == 80
    assert told(found, "lost", "the port 81 led to the engine too")


def mounts(spec: dict[str, Any]) -> dict[str, str]:
    """The node's folders of a spec, by where they are mounted."""
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in spec["pod"]["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in spec["pod"]["volumeMounts"]}


@pytest.mark.parametrize(
    ("text", "expected", "source", "names"),
    [
        ("vllm serve /root/models/x", {"/mnt/x": "/root/models/x"}, "/mnt/x", ["/root/models/x"]),
        ("vllm serve /root/m/x.gguf", {"/mnt/x.gguf": "/root/m/x.gguf"}, "/mnt/x.gguf", ["/root/m/x.gguf"]),
        ("vllm serve /root/x --served-model-name y", {"/mnt/x": "/root/x"}, "/mnt/x", ["y"]),
        (
            f"docker run --gpus all -v /data/m:/root/m {IMAGE} --model /root/m/x",
            {"/mnt/m": "/data/m"},
            "/mnt/m/x",
            ["/root/m/x"],
        ),
        (
            f"docker run --gpus all -v /data:/root/.cache/huggingface:ro {IMAGE} --model /root/.cache/huggingface/x",
            {"/mnt/huggingface": "/data"},
            "/mnt/huggingface/x",
            ["/root/.cache/huggingface/x"],
        ),
        (
            f"docker run --gpus all -v /a:/mnt:ro -v /data:/root/m:ro {IMAGE} --model /root/m/x",
            {"/mnt": "/a", "/media/m": "/data"},
            "/media/m/x",
            ["/root/m/x"],
        ),
        (
            f"docker run --gpus all -v /a:/mnt/m:ro -v /data:/root/m:ro {IMAGE} --model /root/m/x",
            {"/mnt/m": "/a", "/mnt/2/m": "/data"},
            "/mnt/2/m/x",
            ["/root/m/x"],
        ),
        (
            f"docker run --gpus all -v /data:/root/m:ro -v /more:/root/m/sub:ro {IMAGE} --model /root/m/sub/x",
            {"/mnt/m": "/data", "/mnt/m/sub": "/more"},
            "/mnt/m/sub/x",
            ["/root/m/sub/x"],
        ),
        (
            service(command="--model /root/m/x", volumes="['/data:/root/m:ro']"),
            {"/mnt/m": "/data"},
            "/mnt/m/x",
            ["/root/m/x"],
        ),
        ("vllm serve /models/x", {"/models/x": "/models/x"}, "/models/x", None),
        (
            f"docker run --gpus all --user root -v /data:/root/m {IMAGE} --model /root/m/x",
            {"/root/m": "/data"},
            "/root/m/x",
            None,
        ),
    ],
)
def test_a_mount_below_root_is_where_the_engine_can_enter(
    text: str, expected: dict[str, str], source: str, names: list[str] | None
) -> None:
    spec, found = of_one(text)
    assert mounts(spec) == expected
    assert (spec["model"]["source"], spec["model"].get("servedNames")) == (source, names)
    assert bool(told(found, "note", "only root can enter /root")) is (source not in text)
    assert found.whole


def test_every_path_below_a_moved_mount_is_changed_and_nothing_else() -> None:
    spec, found = of_one(
        f"docker run --gpus all -v /data:/root/m:ro -e A=/root/m/a:/root/m -e B=/root/mm -e C=/x/root/m {IMAGE} "
        "--model a/b --served-model-name /root/m/served --tokenizer /root/m/tok --chat-template /root/m/t.jinja "
        '--enable-lora --lora-modules /root/m=/root/m/lora --additional-config \'{"p": "/root/m/q"}\' '
        '--tool-parser-plugin=/root/m/p.py --speculative-config \'{"model": "/root/m/d", '
        '"num_speculative_tokens": 2}\''
    )
    engine = spec["engine"]
    assert spec["model"]["tokenizer"] == "/mnt/m/tok"
    assert spec["model"]["chatTemplate"] == {"path": "/mnt/m/t.jinja"}
    assert spec["model"]["servedNames"] == ["/root/m/served"]
    assert spec["lora"]["adapters"] == [{"name": "/root/m", "source": "/mnt/m/lora"}]
    assert engine["speculativeDecoding"]["model"] == "/mnt/m/d"
    assert '{"p": "/mnt/m/q"}' in engine["extraArgs"]
    assert [one["value"] for one in engine["env"]] == ["/mnt/m/a:/mnt/m", "/root/mm", "/x/root/m"]
    assert len(told(found, "note", "/root/m is mounted at /mnt/m")) == 1
    assert "/root/m/p.py" not in found.text


def test_what_the_image_has_below_root_is_asked_for() -> None:
    _, found = of_one(f"docker run --gpus all {IMAGE} --model /root/model")
    assert told(found, "check", "/root/model is in the image")


@pytest.mark.parametrize("text", [docker("--pids-limit 100"), service(command="--model a/b", pids_limit=100)])
def test_how_many_processes_there_may_be_is_the_kubelets_choice(text: str) -> None:
    _, found = of_one(text)
    assert told(found, "note", "podPidsLimit")
    assert found.whole


@pytest.mark.parametrize("text", [docker('--user "${A}:${B}"'), service(command="--model a/b", user='"${A}:${B}"')])
def test_a_user_that_nobody_has_filled_in_is_told_as_one(text: str) -> None:
    _, found = of_one(text)
    assert told(found, "check", "${A}:${B}", "nobody has filled")
    assert not told(found, "check", "by name only")


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        (docker("--tmpfs /x:rw,size=64m"), {"medium": "Memory", "sizeLimit": "64Mi"}),
        (docker("--tmpfs /x"), {"medium": "Memory"}),
        (docker("--mount type=tmpfs,target=/x,tmpfs-size=1g"), {"medium": "Memory", "sizeLimit": "1Gi"}),
        (docker("-v /x"), {}),
        (service(command="--model a/b", tmpfs="['/x:size=2g']"), {"medium": "Memory", "sizeLimit": "2Gi"}),
        (
            service(command="--model a/b", volumes="[{type: tmpfs, target: /x, tmpfs: {size: 1000}}]"),
            {"medium": "Memory", "sizeLimit": "1000"},
        ),
    ],
)
def test_a_tmpfs_is_memory_of_its_size(text: str, memory: dict[str, str]) -> None:
    spec, found = of_one(text)
    assert spec["pod"]["volumes"] == [{"name": "x", "emptyDir": memory}]
    assert found.whole


def test_a_tmpfs_of_no_size_that_is_known_is_asked_for() -> None:
    _, found = of_one(docker("--tmpfs /x:size=50%"))
    assert told(found, "check", "50%", "is no size")


def test_a_tmpfs_at_dev_shm_is_the_size_of_the_shared_memory() -> None:
    spec, _ = of_one(docker("--tmpfs /dev/shm:size=16g"))
    assert spec["storage"] == {"sharedMemory": "16Gi"}
    assert "pod" not in spec


def on_cards(*cards: tuple[str, str]) -> str:
    """A Compose file with a service on each of these devices, each with further arguments."""
    services = "".join(
        f"  llm{number}:\n    image: {IMAGE}\n    command: --model a/b{number} {arguments}\n    deploy: {{resources: "
        f"{{reservations: {{devices: [{{driver: nvidia, {devices}}}]}}}}}}\n"
        for number, (devices, arguments) in enumerate(cards)
    )
    return f"services:\n{services}"


HALF = "--gpu-memory-utilization 0.45"


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        (on_cards(("device_ids: ['2']", HALF), ("device_ids: ['2']", HALF)), "2"),
        (on_cards(("device_ids: ['0', '1']", f"{HALF} -tp 2"), ("device_ids: ['1']", HALF)), "1"),
        (on_cards(("count: all", HALF), ("count: all", HALF)), "0"),
        (on_cards(("device_ids: ['2']", HALF), ("device_ids: ['3']", HALF)), ""),
        (on_cards(("device_ids: ['2']", ""), ("device_ids: ['2']", "")), ""),
        (f"{docker('', HALF)}\n{docker('', HALF)}", "0"),
        (f"CUDA_VISIBLE_DEVICES=1 vllm serve a/b {HALF}\nCUDA_VISIBLE_DEVICES=1 vllm serve a/c {HALF}", "1"),
        (f"CUDA_VISIBLE_DEVICES=0 vllm serve a/b {HALF}\nCUDA_VISIBLE_DEVICES=1 vllm serve a/c {HALF}", ""),
    ],
)
def test_engines_that_shared_a_device_are_told_that_they_do_no_more(text: str, shared: str) -> None:
    found = imported(text)
    lines = told(found, "note", f"it shared the device {shared}" if shared else "it shared the device")
    assert len(lines) == (2 if shared else 0)
    assert found.whole


CACHE = "--mm-processor-cache-type shm"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (f"vllm serve a/b {CACHE} --mm-processor-cache-gb 128", "130Gi"),
        (f"vllm serve a/b {CACHE} --mm-processor-cache-gb=128 -tp 2", "136Gi"),
        (f"vllm serve a/b {CACHE} --mm-processor-cache-gb 0.5", "3Gi"),
        (f"vllm serve a/b {CACHE}", "6Gi"),
        (f"vllm serve a/b {CACHE} --mm-processor-cache-gb 0", None),
        (f"vllm serve a/b {CACHE} --data-parallel-size 2", None),
        (f"vllm serve a/b {CACHE} --api-server-count 2", None),
        ("vllm serve a/b --mm-processor-cache-type lru --mm-processor-cache-gb 128", None),
        (docker("--ipc host", CACHE), "6Gi"),
        (docker("--shm-size 16g", CACHE), "16Gi"),
        (docker("--shm-size 2g", CACHE), None),
    ],
)
def test_the_shared_memory_holds_the_cache_that_is_in_it(text: str, size: str | None) -> None:
    spec, _ = of_one(text)
    assert spec.get("storage", {}).get("sharedMemory") == size


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        (docker("-v /data/logs:/logs -v /data/out:/out"), "/data/logs, /data/out"),
        (service(command="--model a/b", volumes="['/data/logs:/logs']"), "/data/logs"),
        (docker("-v /data/logs:/logs:ro"), ""),
        (docker("--user 1000 -v /data/logs:/logs"), ""),
        (docker("-v /etc/localtime:/etc/localtime -v /data/t.jinja:/t.jinja"), ""),
        (f"docker run --gpus all -v /data:/models {IMAGE} --model /models/x", ""),
        (docker("-v /data:/loras", "--enable-lora --lora-modules a=/loras/a"), ""),
    ],
)
def test_a_folder_of_the_node_to_write_to_has_to_be_writable(text: str, folders: str) -> None:
    _, found = of_one(text)
    lines = told(found, "note", "must be writable for group 0")
    assert [f" {folders} of the node" in line for line in lines] == [True] * bool(folders)


def test_the_home_of_root_on_a_node_is_asked_for() -> None:
    _, found = of_one(docker("-v /root:/host"))
    assert told(found, "check", "only root can enter /root of a node")
    assert not told(found, "note", "must be writable")
