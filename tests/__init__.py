"""The tests of siteprobe: unit/ (no root, loopback only, fast), real/ (real daemons, namespaces), rigs/ (helpers)."""
