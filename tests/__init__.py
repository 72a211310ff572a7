"""The tests, and the real cluster and engines that they run on."""
