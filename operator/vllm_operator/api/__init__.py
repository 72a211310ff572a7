"""The VLLMModel resource: its spec, status, conditions, names and labels. What derives from it is generated."""
