"""`python -m tests.simulation` writes the table and the drawing of docs/health-gates.md anew."""

from __future__ import annotations

import sys

from tests.simulation.report import DRAWING, PAGE, drawing, simulate, written


def main() -> None:
    """Simulate, and write."""
    findings = simulate()
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), findings), encoding="utf-8")
    DRAWING.write_text(drawing(findings), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name} and {DRAWING.name}\n")


if __name__ == "__main__":
    main()
