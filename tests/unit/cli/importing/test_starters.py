"""Servers that another program starts: in a session, as another user, on another machine, out of a text."""

from __future__ import annotations

import pytest

from tests.support.imports import imported
from vllm_operator.cli.importing.draft import NotImportableError

SERVE = "vllm serve a/b --port 9000"
DOCKER = "docker run --gpus all vllm/vllm-openai:v0.19.0 --model a/b --port 9000"


@pytest.mark.parametrize(
    "text",
    [
        f"setsid nohup {SERVE} > log 2>&1 &",
        f"CUDA_VISIBLE_DEVICES=0 setsid -w {SERVE}",
        f'tmux new-session -d -s vllm "{SERVE}"',
        f'tmux send-keys -t vllm "cd /srv && {SERVE}" C-m',
        f"screen -dmS vllm {SERVE}",
        f"screen -dmS vllm bash -c '{SERVE}'",
        f"srun --gres=gpu:4 --mem=64G {SERVE}",
        f"ssh gpu1 {SERVE}",
        f"ssh gpu1 'source venv/bin/activate && {SERVE}'",
        f"su - vllm -c '{SERVE}'",
        f"sudo runuser -u vllm -- {SERVE}",
        f"gosu vllm {SERVE}",
        f"systemd-run --user --unit=vllm {SERVE}",
        f'eval "{SERVE}"',
        f'COMMAND="{SERVE}"\neval $COMMAND',
        f"script -q -c '{SERVE}' log",
        f"micromamba run -n vllm {SERVE}",
        f"sh -c 'setsid {SERVE}'",
        f"while true; do setsid {SERVE}; done",
    ],
)
def test_what_another_program_starts_is_read(text: str) -> None:
    result = imported(text)
    (found,) = result.documents
    assert found["spec"]["model"]["source"] == "a/b"
    assert found["spec"]["engine"] == {"port": 9000}
    assert any("before the server is left out: kubelet starts it" in line for line in result.told)
    assert result.whole


@pytest.mark.parametrize(
    "text",
    [
        f'bash -c "{DOCKER}"',
        f'ssh gpu1 "{DOCKER}"',
        f'sg docker -c "{DOCKER}"',
        f"sudo sg docker -c '{DOCKER}'",
        f'eval "{DOCKER}"',
        "apptainer run --nv docker://vllm/vllm-openai:v0.19.0 --model a/b --port 9000",
        f"singularity exec --nv docker://vllm/vllm-openai:v0.19.0 {SERVE}",
    ],
)
def test_a_container_that_another_program_starts_is_read(text: str) -> None:
    result = imported(text)
    (found,) = result.documents
    assert found["spec"]["engine"] == {"image": "vllm/vllm-openai:v0.19.0", "port": 9000}
    assert result.whole


def test_mounts_and_variables_of_apptainer_are_those_of_docker() -> None:
    result = imported(
        f"apptainer exec --nv --bind /srv/m:/m -B /srv/n:/n --env A=1 docker://vllm/vllm-openai:v0.19.0 {SERVE}"
    )
    (found,) = result.documents
    assert found["spec"]["engine"]["env"] == [{"name": "A", "value": "1"}]
    assert [mount["mountPath"] for mount in found["spec"]["pod"]["volumeMounts"]] == ["/m", "/n"]


@pytest.mark.parametrize(
    "before", ["docker exec -it box", "kubectl exec box --", "singularity exec --nv vllm.sif", "docker compose run x"]
)
def test_a_container_that_is_there_already_names_no_image(before: str) -> None:
    (check,) = (line for line in imported(f"{before} {SERVE}").told if line.startswith("check: "))
    assert "names no image: spec.engine.image is that of the profile" in check


@pytest.mark.parametrize(
    "text",
    ["ssh gpu1 \"pkill -f 'vllm serve a/b'\"", "tmux new-session -d 'watch nvidia-smi'", 'echo "vllm serve a/b"'],
)
def test_what_only_names_a_server_starts_none(text: str) -> None:
    with pytest.raises(NotImportableError):
        imported(text)
    assert len(imported(f"{text}\n{SERVE}").documents) == 1


def test_what_is_exported_in_a_text_is_the_servers() -> None:
    (found,) = imported(f"tmux new -d -s x 'export A=1; {SERVE}'").documents
    assert found["spec"]["engine"]["env"] == [{"name": "A", "value": "1"}]


def test_no_value_of_what_starts_a_server_is_told() -> None:
    told = "\n".join(imported(f"docker exec -e PASSWORD=hunter2-hunter2 box {SERVE}").told)
    assert "docker exec -e PASSWORD" in told
    assert "hunter2" not in told


def test_replicas_are_those_of_the_server_in_the_loop_alone() -> None:
    text = f"{SERVE} &\nfor i in 1 2; do docker run --name bench-$i load/test:1 --target x; done"
    (found,) = imported(text).documents
    assert "replicas" not in found["spec"]
