"""The values of the Helm chart, described once: values.yaml, its schema and the table of docs/install.md come of it."""
