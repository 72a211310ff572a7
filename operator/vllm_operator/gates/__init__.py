"""The health gate: the program that kubelet runs in the engine's pod.

`judge.py` decides, `looks.py` chooses the questions, `engine.py` puts them, `memory.py` keeps what is between two runs,
`probe.py` is what kubelet starts, and `stop.py` before an engine's end. They are mounted there as they are, side by
side in one folder, and run on the image's own Python: standard library only, Python 3.9 and newer, no import that makes
the interpreter's start slow.
"""
