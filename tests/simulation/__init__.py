"""Fleets in virtual time: modelled engines, looked at by the real gate as kubelet would, for hours within seconds.

Everything random comes from one seeded generator, so that a run can be repeated. What is modelled is the engine, the
network of its pod and kubelet's periods; the questions, the judgement and the state are the program's own.
"""
