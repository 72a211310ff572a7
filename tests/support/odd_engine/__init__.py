"""A plug-in of the real vLLM, in a folder that goes on PYTHONPATH with what says so to vLLM beside it."""
