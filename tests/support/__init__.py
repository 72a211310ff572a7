"""Tools of the tests: the stub engine, the real engine, images, and what starts them."""
