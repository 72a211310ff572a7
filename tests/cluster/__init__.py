"""A real Kubernetes cluster for tests on one Linux machine, without a container engine and without a registry."""
