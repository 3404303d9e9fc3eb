"""Measures the real agent: `make bench`, or `make bench ARGS=quick`."""
