"""The vLLM operator: VLLMModel resources become engines that take traffic only while they complete prompts."""
