"""Engines and fleets in virtual time: modelled engines, looked at once a second by the real judge, within seconds.

Everything random comes from seeded generators, so that a run can be repeated. `world.py` models the engine: what could
be seen of it at any moment, whoever looks. `resident.py` models the program around the judge and kubelet, `fleet.py`
what engines see of each other, `rows.py` what sound engines do and how others break. `before/` holds the judge of
commit 6afbc34, which fails in this world where it is known to: a world in which nobody can fail proves nothing.
"""
