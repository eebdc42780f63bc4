"""What `make bench` runs: ours beside a plain way to do the same, in one run on the same machine."""
