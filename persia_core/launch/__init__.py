"""Starting and watching the MPI job of a training run."""
