"""Tests without root and without traffic beyond the loopback; the whole folder runs in under a minute."""
