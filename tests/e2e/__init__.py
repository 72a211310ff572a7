"""The whole way on a real node: the operator from its manifests, engines in pods, clients over Service DNS."""
