"""What Segue costs and what it brings, measured; run as `python -m benchmarks.<name>`."""
