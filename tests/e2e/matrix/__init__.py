"""The failure modes of engines, each brought about for real, and what clients see with our gates and with plain probes.

Each row is broken at the same moment in two fleets: one that the operator made, and one that is the same but for its
probes, which ask /health as vLLM's documentation shows it. `rows.py` lists the rows, `make matrix` runs them and writes
the table of docs/health-gates.md.
"""
