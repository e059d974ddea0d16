"""What the conversion of a model costs and brings, measured on one machine: `python -m benchmarks.model`."""
