"""What Python runs at the start of each process of an engine, before anything of the image's.

The one file is mounted into the pod in a folder of its own, which is first on PYTHONPATH: standard library only,
Python 3.9 and newer.
"""
