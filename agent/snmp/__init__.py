"""Asks devices over SNMP: sessions, port tables and counters. Nothing here can write to a device.

Only this folder imports pysnmp, and only when the first SNMP check runs (`wire.py`).
"""
