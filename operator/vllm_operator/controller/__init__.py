"""The operator process: kopf brings changes, reconciling answers them."""
