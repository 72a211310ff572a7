"""The vLLM operator: VLLMModel resources become engines that take traffic only while they complete prompts."""

__version__ = "0.1.0"
"""Version of operator, manager and command line."""
