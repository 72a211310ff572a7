"""The manager: what runs as process 1 of an engine's container, and judges the engine there.

`stem.py` is process 1. It starts the engine, relays its output, hands signals on and keeps a second program alive, the
judge (`program.py`), which samples the engine about once a second and answers kubelet's probes over HTTP.

The stem's own rooms: `relay.py` carries the output, `keeper.py` holds what passes between stem and judge,
`fallback.py` answers while no judge does, `keys.py` hands several API keys over, and `cgroup.py` counts what the kernel
has killed for memory, and how often it has stopped the container for want of CPU, which `throttling.py` tells.

The judge's own rooms: `evidence.py` is what one look has seen, `judge.py` what is remembered of looks and what follows
from it (both pure), `engine.py`, `processes.py`, `log.py` and `peers.py` look, `answers.py` answers.

The whole folder is mounted into the pod from a ConfigMap and runs on the image's own Python: standard library only,
Python 3.9 and newer, relative imports.
"""
