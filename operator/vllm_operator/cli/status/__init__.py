"""`kubectl vllm status`: how models and their engines are, once or as a view that follows them."""
