"""`vllm-check`: is there a model behind the settings, and does it do what an application needs of it?

`steps` asks the model, `report` says what came of it.
"""

from vllm_client.check.steps import CheckResult, run_checks

__all__ = ["CheckResult", "run_checks"]
