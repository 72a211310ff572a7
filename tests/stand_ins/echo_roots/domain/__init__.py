"""What a domain expects."""
