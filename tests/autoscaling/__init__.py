"""Autoscaling with what people run: KEDA, prometheus-adapter and Prometheus; `make autoscaling` builds and runs it."""
