"""The study of the modes: the same data and networks under sync, hybrid and async training."""
