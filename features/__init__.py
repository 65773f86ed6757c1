"""Shared kernel: the data contract, signals, features and the feature store."""

import os

# Our matrices are small or already worked on in parallel: a threaded BLAS only spins. It reads
# this once, when numpy is first imported, so it stands where every process of ours passes first.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
