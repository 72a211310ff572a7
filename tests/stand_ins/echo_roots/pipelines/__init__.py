"""From items to what was found in them."""
