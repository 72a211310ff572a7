"""What docs/catalog.md shows is true: its resources make its catalogue, and its programs run on it."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.catalogs import catalog
from tests.support.resources import resource
from tests.support.servers import stub_server
from tools.generate import REPOSITORY
from vllm_client import sources
from vllm_client.router import READ_AGAIN_SECONDS, SET_ASIDE_SECONDS
from vllm_client.selection import Need
from vllm_operator.api.names import CATALOG_PARTS
from vllm_operator.render import catalog as rendered
from vllm_operator.render.catalog import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (REPOSITORY / "docs" / "catalog.md").read_text(encoding="utf-8")
KEY = "key-of-large"


def blocks(language: str) -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def models() -> list[dict[str, Any]]:
    """The page's resources; `large` is ready, as the page says."""
    small, large = yaml.safe_load_all(blocks("yaml")[0])
    return [small, {**large, "status": {"conditions": [{"type": "Available", "status": "True"}]}}]


def test_the_resources_make_the_catalogue() -> None:
    (shown,) = blocks("json")
    assert catalog("team", models())["data"]["catalog.json"] == shown


def test_the_figures_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"asked last for {SET_ASIDE_SECONDS:.0f} s" in text
    assert f"at most {sources.REFRESH_SECONDS:.0f} s old" in text
    assert f"may block for {sources.TIMEOUT_SECONDS:.0f} s" in text
    assert READ_AGAIN_SECONDS == 1
    assert "at most once a second" in text
    assert MAX_BYTES == 900_000
    assert "At 900 kB of models" in text
    assert str(sources.DEFAULT_PATH) in text
    for name in inspect.signature(Need).parameters:
        assert re.search(rf"\b{name}\b", text)


def test_the_counts_of_models_that_fit_are_about_right() -> None:
    line = len(blocks("json")[0].splitlines()[2])
    assert 2500 < MAX_BYTES / line < 5000
    everything = {
        "languages": [f"zh-{number:02}" + "-abcdefgh" * 3 for number in range(32)],
        "complexity": ["simple", "medium", "complex"],
        "tasks": [f"{number:02}".ljust(63, "a") for number in range(32)],
        "labels": {f"{number:02}".ljust(317, "a"): "a" * 63 for number in range(16)},
    }
    spec = {"model": {"source": "a", "servedNames": [f"{n:02}".ljust(253, "a") for n in range(16)]}}
    full = {"metadata": {"name": "m1", "namespace": "team"}, "spec": {**spec, "catalog": {**everything}}}
    assert 60 <= MAX_BYTES / len(catalog("team", [full])["data"]["catalog.json"]) <= 70


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's catalogue, mounted; both models are one stub engine."""
    flags = ("--served-model-name", "large", "small")
    with stub_server(*flags, folder=tmp_path, api_key=KEY) as server:
        content = json.loads(blocks("json")[0])
        for model in content["models"]:
            model["base_url"] = f"{server.url}/v1"
        (tmp_path / "catalog.json").write_text(json.dumps(content), encoding="utf-8")
        monkeypatch.setenv("VLLM_CATALOG", str(tmp_path))
        monkeypatch.setenv("VLLM_API_KEY", KEY)
        yield


@pytest.mark.usefixtures("mounted")
@pytest.mark.parametrize(
    ("position", "printed"),
    [
        (0, r"large http://127.0.0.1:\d+/v1 large True\nsmall\n\['large', 'small'\]\n"),
        (1, r"large heard: Which attributes .*\nTokenUsage\(.*\)\nlarge heard: anything .*\n"),
    ],
)
async def test_the_programs_run(position: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = blocks("python")[position]
    assert len(blocks("python")) == 3
    program = compile(text, "docs/catalog.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(program, {})  # noqa: S307 # the page's own program; eval returns what is to be awaited
    if running is not None:
        await running
    assert re.fullmatch(printed, capsys.readouterr().out)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert links
    assert [link for link in links if not (REPOSITORY / "docs" / link).exists()] == []


def test_the_volume_of_a_catalogue_in_parts_has_every_file_that_the_library_reads(tmp_path: Path) -> None:
    (volume,) = yaml.safe_load(blocks("yaml")[-2])["volumes"]
    listed = [source["configMap"] for source in volume["projected"]["sources"]]
    assert [one["name"] for one in listed] == list(CATALOG_PARTS)
    assert all(one["optional"] for one in listed), "a pod would not start before all eight are there"
    assert yaml.safe_load(blocks("yaml")[-1])["resourceNames"] == list(CATALOG_PARTS)
    assert len(CATALOG_PARTS) == sources.MOST_PARTS
    heavy = {"tasks": [f"{number:02}".ljust(63, "x") for number in range(32)]}
    made = rendered.catalog("team", [resource(f"m-{number:04}", catalog=heavy) for number in range(1000)])
    assert 1 < len(made) < len(listed)
    for part in made:  # as kubelet does: the files of all that there are, in one folder
        for file, text in part["data"].items():
            (tmp_path / file).write_text(text, encoding="utf-8")
    found = sources.FileSource(tmp_path).read()
    assert ([model.name for model in found.models], found.truncated) == ([f"m-{n:04}" for n in range(1000)], 0)


def test_the_pod_mounts_it_where_the_library_looks() -> None:
    pod = yaml.safe_load(blocks("yaml")[1])
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert Path(mount["mountPath"]) == sources.DEFAULT_PATH.parent
    assert "subPath" not in mount
    assert pod["volumes"][0]["configMap"]["name"] == sources.CONFIG_MAP
