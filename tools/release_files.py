"""Makes the files of a release: `make release-files`; or only the list of what the image holds: `make sbom`."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tools.generate import REPOSITORY
from tools.install_file import install_text
from tools.release_check import CHANGELOG, project_version, section

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = REPOSITORY / "out" / "release"
SBOM: Final = "sbom.cdx.json"
"""Name of the list, as scanners recognize it."""
NOTES: Final = "notes.md"
SUMS: Final = "SHA256SUMS"


def write_sbom(target: Path) -> None:
    """The pinned packages of the operator's image with their hashes, as CycloneDX; the same input, the same bytes.

    It knows nothing of the base image, whose own packages scanners find in the image.
    """
    # A requirements file does not say who needs whom, which the library warns of each time.
    program = [sys.executable, "-W", "ignore::UserWarning", "-m", "cyclonedx_py"]
    program += ["requirements", "--pyproject", "pyproject.toml"]
    options = ["--mc-type", "application", "--output-reproducible", "--of", "JSON", "--validate", "-o", str(target)]
    subprocess.run([*program, *options, "requirements/operator.txt"], cwd=REPOSITORY, check=True)


def write_files(folder: Path, image: str) -> None:
    """Wheel, sdist, the manifests with that image, the list of packages, the notes, and the sums of the others.

    Raises:
        ValueError: the image is not told by its digest, so that what is installed could become something else.
    """
    if "@sha256:" not in image:
        raise ValueError(f"image {image!r}: name it with its digest, as NAME:TAG@sha256:...")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=REPOSITORY, check=True)
    (folder / "install.yaml").write_text(install_text(image), encoding="utf-8")
    write_sbom(folder / SBOM)
    names = sorted(path.name for path in folder.iterdir())
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")
    (folder / NOTES).write_text(notes(image), encoding="utf-8")


def notes(image: str) -> str:
    """What a release's page says: the image, and the change log's section."""
    version = project_version(REPOSITORY)
    changes = section((REPOSITORY / CHANGELOG).read_text(encoding="utf-8"), f"[{version}]").strip()
    return f"Image: `{image}`\n\n{changes}\n"


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(prog="python -m tools.release_files", description=__doc__)
    parser.add_argument(
        "image", nargs="?", default="", help="image of the release, with its digest; none: only the list"
    )
    image = parser.parse_args().image
    FOLDER.mkdir(parents=True, exist_ok=True)
    if image:
        write_files(FOLDER, image)
    else:
        write_sbom(FOLDER / SBOM)
    sys.stdout.write(f"wrote {FOLDER.relative_to(REPOSITORY)}\n")


if __name__ == "__main__":
    main()
