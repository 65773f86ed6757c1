"""Shared kernel: the data contract, signals, features and the feature store."""
