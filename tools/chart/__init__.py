"""The values of the Helm chart, described once: values.yaml, its schema and the tables of pages come of it."""
