"""The parts of the benchmark of `persia serve`."""
