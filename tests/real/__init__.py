"""Tests with real daemons and network namespaces; what a machine lacks is skipped by name."""
