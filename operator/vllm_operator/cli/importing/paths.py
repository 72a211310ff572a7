"""Paths in a server's arguments: those that a command found on its machine, and where it downloads to."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.shell import shown
from vllm_operator.cli.importing.workload import is_below
from vllm_operator.render.environment import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_operator.cli.importing.draft import Path
    from vllm_operator.cli.importing.parts import PodParts

SOURCES: Final[tuple[Path, ...]] = (
    ("model", "source"),
    ("model", "tokenizer"),
    ("engine", "speculativeDecoding", "model"),
)
"""Fields that hold a folder, or the name of a repository."""
_TEMPLATE: Final[Path] = ("model", "chatTemplate", "path")
_DOWNLOADS: Final[Path] = ("model", "downloadDir")
_EXTRA: Final[Path] = ("engine", "extraArgs")
_EXTRA_PATHS: Final = frozenset(
    {"--allowed-local-media-path", "--generation-config", "--hf-config-path", "--log-config-file"}
    | {"--mm-encoder-fp8-scale-path", "--qlora-adapter-name-or-path"}
    | {"--reasoning-parser-plugin", "--tool-parser-plugin"}
)
"""Arguments without a field whose value may be a path."""
_IN_THE_IMAGE: Final = ("examples/", "/vllm-workspace/")
"""Where vLLM's own image has its chat templates, as they are written: from its working folder, or whole."""
_RELATIVE: Final = ("./", "../", "~")
_UNFILLED: Final = "${"
"""How a variable stands in the draft that nobody has filled in, which has been told by then."""
_OWNER_AND_NAME: Final = 1
"""Slashes in the name of a repository."""

_PLACES: Final = ("/mnt", "/media", "/srv")
"""Folders that are empty in images, and in which every user may look."""
_MOVED: Final = ("model", "engine", "lora")
"""Parts of the spec in which paths of the engine's container stand."""
_KEPT: Final = frozenset({"servedNames", "inline", "name"})
"""Fields that hold no path, though their text may look like one."""


class Moves:
    """Mounts that the engine's user cannot reach where they were, elsewhere; what names them is changed with them."""

    def __init__(self, parts: PodParts) -> None:
        self._parts = parts
        self._draft = parts.draft

    def move(self, path: str) -> str:
        """The new path of a mount below /root. A model keeps the name under which vLLM served it."""
        before = next((old for old in self._parts.moved if path.startswith(f"{old}/")), "")
        new = self._parts.moved[before] + path[len(before) :] if before else self._unused(path)
        self._parts.moved[path] = new
        source = self._draft.get("model", "source")
        moved = Renaming(path, new)
        for name in _MOVED:
            if name in self._draft.spec:
                self._draft.spec[name] = moved.of(self._draft.spec[name])
        self._parts.variables = moved.of_variables(self._parts.variables)
        self._parts.container_patch = moved.of(self._parts.container_patch)
        if source != self._draft.get("model", "source") and not self._draft.get("model", "servedNames"):
            self._draft.put(("model", "servedNames"), [source])
        told = f"{path} is mounted at {new}, and what names it says so: only root can enter /root"
        self._draft.note(told, "pod", "volumeMounts")
        return new

    def _unused(self, path: str) -> str:
        """A path with the same last part at which nothing is mounted."""
        taken = [*self._parts.mounted(), *self._parts.moved.values()]
        folders = (f"{place}{number}" for place in _PLACES for number in ("", *(f"/{one}" for one in range(2, 99))))
        found = (f"{folder}/{path.rpartition('/')[2]}" for folder in folders)
        return next(one for one in found if not any(is_below(one, other) or is_below(other, one) for other in taken))


class Renaming:
    """A path that becomes another one, wherever it stands whole or as the beginning of a longer path."""

    def __init__(self, old: str, new: str) -> None:
        self._new = new
        self._old = re.compile(rf"(?<![\w./~$}}-]){re.escape(old)}(?![\w.-])")

    def of(self, value: Any) -> Any:
        """A value with the new path in every text."""
        if isinstance(value, dict):
            return {key: item if key in _KEPT else self.of(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item) for item in value]
        return self._old.sub(lambda _: self._new, value) if isinstance(value, str) else value

    def of_variables(self, variables: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Variables with the new path in their values."""
        return [{**one, "value": self.of(one["value"])} if "value" in one else one for one in variables]


def argument_values(words: Sequence[str]) -> dict[str, str]:
    """The values of arguments, `--name value` or `--name=value`, by their names."""
    found = {}
    for word, after in itertools.pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            found[name] = value if equals else after
    return found


class Paths:
    """Reads the paths of one server, once its arguments are in the draft."""

    def __init__(self, parts: PodParts) -> None:
        self._parts = parts
        self._draft = parts.draft

    def read(self) -> None:
        """Mount what is the machine's own, and leave out a folder of downloads that no volume holds."""
        workload = self._parts.workload
        if workload.rendered:
            return
        self._downloads()
        if workload.on_a_machine and not workload.container.get("image"):
            self._mount()

    def _downloads(self) -> None:
        folder = self._draft.get(*_DOWNLOADS)
        if folder is None or self._parts.runs_as_root() or self._parts.is_writable(folder):
            return
        del self._draft.spec["model"]["downloadDir"]
        self._draft.note(
            f"--download-dir {shown(folder)} is left out: no volume is there; downloads go to {CACHE} "
            "(spec.storage.cache)",
            "storage",
        )

    def _mount(self) -> None:
        mounted: list[str] = []
        for path, field in sorted(self._found()):
            if not path.startswith("/") or ".." in path.split("/"):
                self._draft.check(
                    f"{shown(path)} is a path of one machine, seen from where the command ran: import it again with "
                    "the whole path, or bring it into the cluster, as pvc://CLAIM/PATH, oci://IMAGE or "
                    "s3://BUCKET/PATH",
                    *field,
                )
            elif path != "/" and not any(is_below(path, one) for one in mounted):
                mounted.append(path)
        self._parts.workload.mount_of_node(mounted)

    def _found(self) -> Iterator[tuple[str, Path]]:
        """Paths that are the machine's, each with the field that holds it."""
        for field in SOURCES:
            yield from ((path, field) for path in _folder(self._draft.get(*field)))
        for adapter in self._draft.get("lora", "adapters") or ():
            yield from ((path, ("lora", "adapters")) for path in _folder(adapter["source"]))
        template = self._draft.get(*_TEMPLATE) or ""
        if template and _UNFILLED not in template and not template.removeprefix("./").startswith(_IN_THE_IMAGE):
            yield template, _TEMPLATE
        for argument, path in argument_values(self._draft.get(*_EXTRA) or []).items():
            if argument in _EXTRA_PATHS and (path.startswith(("/", *_RELATIVE)) or path.endswith((".py", ".json"))):
                yield path, _EXTRA


def _folder(source: str | None) -> list[str]:
    """The source where it is a folder; nothing where it is the name of a repository, or nobody has filled it in."""
    if not source or _UNFILLED in source or "://" in source:
        return []
    relative = source.startswith(_RELATIVE) or source.count("/") > _OWNER_AND_NAME
    return [source.rstrip("/")] if relative or source.startswith("/") else []
