"""The health gate: the program that kubelet runs in the engine's pod.

`judge.py` and `probe.py` are mounted there as they are, side by side in one folder, and run on the image's own Python:
standard library only, Python 3.9 and newer, and no import that makes the interpreter's start slow.
"""
