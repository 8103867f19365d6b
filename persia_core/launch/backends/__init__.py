"""Where training jobs run: on this host, under Slurm, or in Kubernetes, behind one small interface."""
