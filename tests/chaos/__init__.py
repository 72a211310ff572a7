"""What breaks around the operator, and while it works: a sample in `make test`, all of it in `make chaos`."""
