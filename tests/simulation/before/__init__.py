"""The judge of commit 6afbc34, as it was: the simulated world has to be able to fail, and there it does.

`judge.py` and `looks.py` are that commit's own, `engine.py` is what it read out of the metrics, `kubelet.py` runs them
as kubelet ran the program: by exec, every 5 s for readiness and every 10 s for liveness.
"""
