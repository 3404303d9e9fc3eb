"""Helpers that start real daemons, namespaces and scripted peers for the tests."""
