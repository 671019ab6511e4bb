"""Talking to a model in our own name, through the proxy, so that it is counted like everything else."""
