"""`kubectl vllm report`: what somebody who helps has to see of models and of the operator, without secrets."""
