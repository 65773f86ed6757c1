"""A world with known truth that makes listening data."""
