"""The operator's image: built by a real builder, and held against the one that the test cluster runs."""
