"""The benchmark: what the operator costs, against the same writes made bare, on a real API server.

`python -m tests.bench --resources 200` prints a table and writes `out/bench.json`; docs/development/bench.md explains
every figure.

options.py    what a run is asked to do
audit.py      who wrote what and when, from the API server's audit log: the clock and the counter of every figure
site.py       the cluster under test: namespaces, identities, clean-up
bodies.py     the resources, and the writes that the operator owes each of them
bare.py       those writes made by the harness alone
process.py    the operator's process, its CPU, memory and metrics
phases.py     one measurement each: bare, operated, idle, restarted
run.py        the order of the phases on one cluster
figures.py    from measurements to figures and verdicts; pure
report.py     the table and the JSON; pure
"""
