"""From a VLLMModel to the objects that the cluster shall hold. Pure: the same spec gives the same bytes."""
