"""`python -m tests.e2e.matrix` writes the table of docs/health-gates.md from what the last run has seen."""

from __future__ import annotations

import sys

from tests.cluster.paths import REPOSITORY
from tests.e2e.matrix.conftest import DOCUMENT
from tests.e2e.matrix.findings import page_with, read

PAGE = REPOSITORY / "docs" / "health-gates.md"


def main() -> None:
    """Read and write."""
    findings = read(DOCUMENT.read_text(encoding="utf-8"))
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), findings), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")


if __name__ == "__main__":
    main()
