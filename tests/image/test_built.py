"""operator/Dockerfile, built for real: the image is small, holds what the test cluster's holds, and runs as it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import images
from tests.support.dockerfile import read_stages
from tools.operator_files import NEEDLESS_SUFFIXES

if TYPE_CHECKING:
    from tests.image.conftest import Built, Content

pytestmark = pytest.mark.programs

MEGABYTE: Final = 1_000_000
MOST_BYTES: Final = 120 * MEGABYTE
"""What the whole image may weigh, unpacked."""
MOST_OF_OURS_BYTES: Final = 42 * MEGABYTE
"""What packages and code may weigh: the base of the Dockerfile, which is not to be had here, has the rest."""
OURS: Final = "opt/vllm-operator/"


def ours(content: Content) -> dict[str, tuple[int, str, bytes]]:
    """The files that the Dockerfile adds to its base."""
    return {name: file for name, file in content.files.items() if name.startswith(OURS)}


def test_a_real_builder_and_the_test_cluster_make_the_same_files_of_it(built: Content, tested: Content) -> None:
    """Byte for byte, byte code included: what the tests on clusters run is what a Dockerfile build gives."""
    real, test = ours(built), ours(tested)
    assert sorted(real) == sorted(test)
    assert [name for name in real if real[name] != test[name]] == []
    assert len(real) > 1000


def test_both_start_the_same_way(built: Content, tested: Content) -> None:
    assert (
        built.config["Entrypoint"] == tested.config["Entrypoint"] == ["python3", "-m", "vllm_operator.controller.app"]
    )
    assert built.config["User"] == tested.config["User"] == "1000:1000"
    assert {"PYTHONPATH=/opt/vllm-operator", "PYTHONDONTWRITEBYTECODE=1"} <= set(built.config["Env"])
    assert set(built.config["Env"]) == set(tested.config["Env"])


def test_its_program_loads_as_the_user_of_the_image(built_and_tried: Built) -> None:
    assert built_and_tried.printed == "1000 /nonexistent /opt/vllm-operator/vllm_operator/controller/app.py\n"


def test_only_what_the_operator_runs_with_is_in_it(built: Content) -> None:
    names = {name.removeprefix(OURS) for name in ours(built)}
    packages = {name.partition("/")[0].partition("-")[0] for name in names}
    assert {"kopf", "aiohttp", "vllm_operator"} <= packages
    assert not packages & {"kubernetes", "openai", "pip", "pytest", "setuptools", "tests", "vllm_client"}
    assert [name for name in names if name.endswith(tuple(set(NEEDLESS_SUFFIXES) - {".pyc"}))] == []
    sources = {name for name in names if name.startswith("vllm_operator/") and name.endswith(".py")}
    assert sum(name.endswith(".pyc") and name.startswith("vllm_operator/") for name in names) == len(sources)
    licences = {name.partition("-")[0] for name in names if "LICEN" in name or "COPYING" in name}
    assert {"kopf", "aiohttp", "orjson", "pydantic"} <= licences
    secrets = [name for name in built.files if name.startswith(("build/", "files/", "root/.", "etc/pip"))]
    assert secrets == []


def test_the_files_belong_to_nobody_who_runs_there_and_cannot_be_changed_by_others(built: Content) -> None:
    assert [name for name, (mode, link, _) in ours(built).items() if not link and mode & 0o022] == []


def test_the_whole_weighs_less_than_120_megabytes(built: Content) -> None:
    sizes = {"base": built.layer_bytes[0], "all": sum(len(content) for _, _, content in built.files.values())}
    sizes["ours"] = sum(len(content) for _, _, content in ours(built).values())
    print({name: f"{size / MEGABYTE:.1f} MB" for name, size in sizes.items()})
    assert sizes["all"] < MOST_BYTES
    assert sizes["ours"] < MOST_OF_OURS_BYTES


@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_36", "aarch64-manylinux_2_36"])
def test_each_platform_has_wheels_for_the_python_of_the_dockerfile(platform: str) -> None:
    """And they weigh the same: a release is built for both."""
    stage = read_stages(images.DOCKERFILE)[0]
    version = stage.base.partition(":")[2].partition("-")[0]
    with images.operator_packages(("--python-version", version, "--python-platform", platform)) as folder:
        found = {path.name for path in folder.rglob("*.so")}
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert found
    machine = platform.partition("-")[0]
    assert all(f"cpython-{version.replace('.', '')}-{machine}" in name or "abi3" in name for name in found), found
    assert size < MOST_OF_OURS_BYTES
