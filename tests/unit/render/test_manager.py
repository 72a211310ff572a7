"""What the pod says of the manager: the command that starts the engine by it, its files, its port and its probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.resources import SOURCE, model
from vllm_operator import manager as package
from vllm_operator.manager import settings as program_settings
from vllm_operator.manager.settings import Settings, settings_of
from vllm_operator.render import amx, manager
from vllm_operator.render.command import command
from vllm_operator.render.deployment import deployment
from vllm_operator.render.service import discovery

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
FILES = {path.name for path in Path(package.__file__).parent.iterdir() if path.suffix in (".py", ".json")}


def pod_spec(**sections: Any) -> dict[str, Any]:
    """Pod spec of a model's engines."""
    found: dict[str, Any] = deployment(model(**sections))["spec"]["template"]["spec"]
    return found


def container(**sections: Any) -> dict[str, Any]:
    """The engine's container."""
    (only,) = pod_spec(**sections)["containers"]
    return dict(only)


def options(**sections: Any) -> list[str]:
    """What the stem is told, as the container gets it from kubelet: a doubled dollar sign is a single one."""
    words = [word.replace("$$", "$") for word in container(**sections)["command"]]
    assert words[:5] == [*manager.INTERPRETER, manager.STEM]
    assert words[-1] == "--"
    assert words.count("--") == 1
    return words[5:-1]


def settings(**sections: Any) -> Settings:
    """What the program reads from them."""
    return settings_of(options(**sections), {})


def test_the_manager_starts_what_the_args_say_which_are_the_engines_command_line_alone() -> None:
    one = model(engine={"port": 9000})
    (engine,) = deployment(one)["spec"]["template"]["spec"]["containers"]
    assert engine["args"] == command(one.spec, manager.unlogged(one.spec))
    assert engine["args"][:3] == ["vllm", "serve", SOURCE]


def test_the_command_runs_the_stem_where_the_config_map_is_mounted() -> None:
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_spec()["volumes"]}
    assert volumes["manager"]["configMap"] == {"name": manager.program("team")["metadata"]["name"]}
    assert mounts["manager"]["mountPath"] == manager.PROGRAM_FOLDER
    assert mounts["manager"]["readOnly"] is True
    assert "subPath" not in mounts["manager"], "kubelet keeps what is mounted so as it was"
    assert volumes["manager-state"]["emptyDir"]["medium"] == "Memory"
    assert Path(manager.PROGRAM_FOLDER).name == Path(package.__file__).parent.name, "it is run as that package"


def test_the_config_map_holds_every_file_of_the_manager_and_belongs_to_no_single_model() -> None:
    program = manager.program("team")
    assert program["metadata"]["name"] == "vllm-manager", "pods of earlier versions run programs out of vllm-gates"
    assert "ownerReferences" not in program["metadata"]
    assert set(program["data"]) == {*FILES, amx.FILE}


def test_a_model_without_wishes_is_told_ports_name_and_service_alone() -> None:
    assert options()[::2] == ["--gate-port", "--engine-port", "--model", "--service"]
    found = settings(engine={"port": 9000}, model={"source": SOURCE, "servedNames": ["main", "other"]})
    assert (found.gate_port, found.engine_port, found.model) == (8480, 9000, "main")
    assert f"{found.service}:9000" == discovery(model(engine={"port": 9000})), "the name that clients resolve"
    assert found == Settings(8480, engine_port=9000, model="main", service=found.service)


def test_the_defaults_of_the_spec_are_those_of_the_program_so_that_none_of_them_is_rendered() -> None:
    spelled_out = {
        "canaryIntervalSeconds": program_settings.CANARY_INTERVAL_SECONDS,
        "stallWindowSeconds": program_settings.STALL_WINDOW_SECONDS,
        "longestStallWindowSeconds": program_settings.LONGEST_STALL_WINDOW_SECONDS,
        "restartWindowSeconds": program_settings.RESTART_WINDOW_SECONDS,
        "startupBudgetSeconds": program_settings.STARTUP_BUDGET_SECONDS,
    }
    assert options(gates={name: int(seconds) for name, seconds in spelled_out.items()}) == options()


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"gates": {"port": 9480}}, {"gate_port": 9480}),
        ({"gates": {"canary": "Never"}}, {"canary_interval": None}),
        ({"gates": {"canaryIntervalSeconds": 5}}, {"canary_interval": 5}),
        ({"gates": {"stallWindowSeconds": 20}}, {"stall_window": 20}),
        ({"gates": {"stallWindowSeconds": 100}}, {"stall_window": 100, "longest_stall_window": 100}),
        ({"gates": {"longestStallWindowSeconds": 90}}, {"longest_stall_window": 90}),
        ({"gates": {"restart": "Never"}}, {"restart_window": None}),
        ({"gates": {"restartWindowSeconds": 400}}, {"restart_window": 400}),
        ({"gates": {"startupBudgetSeconds": 60}}, {"startup_budget": 60}),
        (
            {"gates": {"probe": ["sh", "-c", "ask $(A) $HOST $$"]}},
            {"canary": "command", "command": ("sh", "-c", "ask $(A) $HOST $$")},
        ),
        ({"model": {"source": SOURCE, "runner": "pooling"}}, {"canary": "pooling"}),
        ({"model": {"source": SOURCE, "convert": "embed"}}, {"canary": "pooling"}),
        ({"model": {"source": SOURCE, "convert": "embed", "runner": "generate"}}, {"canary": "auto"}),
        ({"model": {"source": SOURCE, "servedNames": ["$(HOME)"]}}, {"model": "$(HOME)"}),
        (
            {
                "lora": {
                    "adapters": [{"name": "sql", "source": "pvc://weights/sql"}, {"name": "é", "source": "hf://a/b"}]
                }
            },
            {"adapters": (("sql", "/mnt/claims/weights/sql"), ("é", "a/b"))},
        ),
    ],
    ids=str,
)
def test_what_the_spec_says_reaches_the_program(sections: dict[str, Any], told: dict[str, Any]) -> None:
    plain = settings()
    found = settings(**sections)
    assert {name: getattr(found, name) for name in told} == told
    others = set(Settings.__dataclass_fields__) - set(told)
    assert {name: getattr(found, name) for name in others} == {name: getattr(plain, name) for name in others}


@pytest.mark.parametrize(("probe", "path"), [*zip(PROBES, ("/startup", "/ready", "/live"), strict=True)])
def test_kubelet_asks_the_manager_at_a_port_of_its_own(probe: str, path: str) -> None:
    engine = container(gates={"port": 9480})
    assert engine[probe]["httpGet"] == {"path": path, "port": "gate", "scheme": "HTTP"}
    assert {"name": "gate", "containerPort": 9480, "protocol": "TCP"} in engine["ports"]


@pytest.mark.parametrize("budget", [30, 3600, 3601])
def test_the_manager_ends_an_engine_that_does_not_come_up_before_kubelet_does(budget: int) -> None:
    probe = container(gates={"startupBudgetSeconds": budget})["startupProbe"]
    assert probe["failureThreshold"] * manager.STARTUP_HOLD_SECONDS >= budget + manager.STARTUP_HOLD_SECONDS
    assert probe["timeoutSeconds"] > manager.STARTUP_HOLD_SECONDS


def test_one_late_answer_costs_no_traffic_and_several_no_life() -> None:
    assert container()["readinessProbe"]["failureThreshold"] == 2
    assert container()["livenessProbe"]["failureThreshold"] == 3


def test_an_engine_that_a_probe_gives_up_is_ended_soon_and_one_that_drains_is_not() -> None:
    for name in ("startupProbe", "livenessProbe"):
        assert container()[name]["terminationGracePeriodSeconds"] == 10
    assert "terminationGracePeriodSeconds" not in container()["readinessProbe"]


def test_nothing_is_run_in_the_container_from_outside() -> None:
    engine = container()
    assert "lifecycle" not in engine
    assert not [probe for probe in PROBES if "exec" in engine[probe]]


def test_the_manager_knows_its_pod_and_the_users_own_variable_of_that_name_wins() -> None:
    env = {one["name"]: one for one in container()["env"]}
    fields = {name: env[name]["valueFrom"]["fieldRef"]["fieldPath"] for name in ("POD_NAME", "POD_IP", "POD_IPS")}
    assert fields == {"POD_NAME": "metadata.name", "POD_IP": "status.podIP", "POD_IPS": "status.podIPs"}
    mine = {"name": "POD_NAME", "value": "x"}
    assert mine in container(engine={"env": [mine]})["env"]


MESH: dict[str, Any] = {"name": "mesh", "image": "mesh:1"}


@pytest.mark.parametrize(
    ("pod", "allowed"),
    [
        ({}, False),
        ({"patch": {"spec": {"containers": [{"name": "vllm", "stdin": True}]}}}, False),
        ({"sidecars": [MESH]}, True),
        ({"patch": {"spec": {"containers": [MESH]}}}, True),
    ],
    ids=["alone", "a patch of the engine", "a sidecar", "a container by patch"],
)
def test_a_server_on_the_loopback_is_reached_where_another_container_can_hand_requests_on(
    pod: dict[str, Any], *, allowed: bool
) -> None:
    containers = pod_spec(engine={"host": "127.0.0.1"}, pod=pod)["containers"]
    (found,) = [one["env"] for one in containers if one["name"] == "vllm"]
    assert ({"name": "GATE_LOOPBACK", "value": "allowed"} in found) is allowed
    assert "GATE_LOOPBACK" not in str(pod_spec(pod=pod)), "a server that others reach needs nobody's leave"


def test_what_the_manager_asks_all_the_time_is_not_in_the_access_log() -> None:
    def unlogged(**sections: Any) -> set[str]:
        words = container(**sections)["args"]
        return set(words[words.index("--disable-access-log-for-endpoints") + 1].split(","))

    assert unlogged() == set(program_settings.POLLED_PATHS)
    assert "/v1/models" in unlogged(lora={"adapters": [{"name": "sql", "source": "a/b"}]}), "asked for lost adapters"


def test_without_a_service_the_manager_is_told_of_none() -> None:
    words = container()["command"]
    assert settings_of(manager.alone(words)[5:-1], {}) == Settings(8480, model=SOURCE)
    assert manager.alone(manager.alone(words)) == manager.alone(words)
