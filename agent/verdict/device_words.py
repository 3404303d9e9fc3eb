"""What an SNMP device says of itself: the verdict's words, how each is said, and what to do; the most urgent first.

A word of its own names the cause, so it comes before `device_fault`, which stands for all the rest that is broken: a
fan, a power supply, an overload. What is over already, or waits for somebody to pass by, comes after it.
"""

from __future__ import annotations

from agent.illness import DEVICE_FAULT

DEVICE_WORDS = (
    (
        "switch_port_err_disabled",
        "A switch has shut a port off for a fault",
        "Find the cause, then re-enable the port.",
    ),
    ("switch_port_down", "A watched switch port is down", "Check what is connected there, its power and its cable."),
    ("ups_battery_low", "A UPS is nearly empty", "Restore mains power or shut down in order, now."),
    ("ups_on_battery", "A UPS runs on its battery", "Check the mains supply; mind the minutes left."),
    ("temperature_high", "It is too hot", "Check the cooling of the room; servers shut down by themselves later."),
    ("poe_fault", "A switch cannot power a device", "Check the powered device and the switch's power budget."),
    ("duplex_mismatch", "Two ends of a cable disagree on duplex", "Set both ends to automatic."),
    ("port_errors_high", "A switch port sees too many errors", "Change the cable, then the transceiver."),
    ("stp_instability", "The switches keep rebuilding their tree", "Look for a loop or a flapping uplink."),
    (DEVICE_FAULT, "A device is not well", "See to the part that is named: mend or replace it, or take load off it."),
    ("device_rebooted", "A device was started anew", "Ask whether that was planned; look at its log."),
    ("printer_fault", "A printer needs attention", "See to the printer."),
)
FINDINGS = tuple(word for word, _, _ in DEVICE_WORDS)
"""The words alone."""
