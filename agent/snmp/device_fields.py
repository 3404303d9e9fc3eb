"""The record fields that the packaged profiles fill, each with its unit in the name. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.model import Fact

FAN = "State of the fan that is worst off."
DEVICE_FACTS: Mapping[str, Fact] = MappingProxyType(
    {
        "model": Fact(str, "Model of the device; told when first read and when it changes."),
        "serial": Fact(str, "Its serial number; told as `model` is."),
        "firmware": Fact(str, "Its firmware; told as `model` is."),
        "cpu_ratio": Fact(float, "How busy its processors are, 0 to 1; the busiest, of a host the mean."),
        "memory_used_ratio": Fact(float, "Part of the memory in use, 0 to 1."),
        "memory_free_ratio": Fact(float, "Part of the memory that is free, 0 to 1; buffers count as used."),
        "memory_used_bytes": Fact(int, "Memory in use, bytes."),
        "memory_free_bytes": Fact(int, "Memory that is free, bytes."),
        "disk_used_ratio": Fact(float, "How full its fullest disk is, 0 to 1."),
        "host_uptime_s": Fact(float, "Seconds since the machine itself started (hrSystemUptime)."),
        "device_temperature_celsius": Fact(float, "The hottest sensor inside the device."),
        "temperature_state": Fact(str, "The device's own word for the sensor that is worst off."),
        "room_temperature_celsius": Fact(float, "Temperature of the room or rack, the hottest sensor."),
        "probe_temperature_celsius": Fact(float, "The hottest of the sensors on cables."),
        "probes_missing": Fact(int, "Sensors on cables that do not answer."),
        "humidity_ratio": Fact(float, "Relative humidity, 0 to 1."),
        "sensor_state": Fact(str, "State of the sensor that is worst off."),
        "fan_state": Fact(str, FAN),
        "fan_rpm": Fact(float, "Speed of the slowest fan, turns a minute."),
        "power_supply_state": Fact(str, "State of the power supply that is worst off."),
        "chassis_state": Fact(str, "State of the fan, power supply or temperature that is worst off."),
        "part_state": Fact(str, "State of the part that is worst off."),
        "yellow_alarm": Fact(str, "Whether the yellow alarm is on."),
        "red_alarm": Fact(str, "Whether the red alarm is on."),
        "device_alarms": Fact(int, "Alarms that the device itself has."),
        "stp_topology_changes": Fact(int, "Changes of the spanning tree in the last 5 minutes."),
        "stp_root_port": Fact(int, "Port towards the root of the spanning tree; 0 = it is the root."),
        "ports_err_disabled": Fact(int, "Ports that the switch took out of service."),
        "poe_used_ratio": Fact(float, "Part in use of the power for devices on the cables, 0 to 1."),
        "poe_supply_state": Fact(str, "State of that power supply: on, off or faulty."),
        "poe_ports_faulty": Fact(int, "Ports on which power over Ethernet fails."),
        "ups_output_source": Fact(str, "What feeds the output of the UPS, such as normal, battery or bypass."),
        "ups_battery_status": Fact(str, "The UPS's word for its battery."),
        "on_battery_s": Fact(float, "Seconds on battery; 0 on mains."),
        "battery_left_s": Fact(float, "Seconds for which the battery would last at the present load."),
        "battery_charge_ratio": Fact(float, "Charge of the battery, 0 to 1."),
        "battery_voltage_volts": Fact(float, "Voltage of the battery."),
        "battery_temperature_celsius": Fact(float, "Temperature of the battery."),
        "battery_replace": Fact(str, "Whether the UPS asks for a new battery: yes or no."),
        "ups_self_test": Fact(str, "Result of the UPS's last test of itself."),
        "ups_temperature_celsius": Fact(float, "Temperature around the UPS."),
        "ups_load_ratio": Fact(float, "Load of the UPS, 0 to 1; of several phases the highest."),
        "input_voltage_volts": Fact(float, "Mains voltage; of several phases the highest."),
        "power_watts": Fact(float, "Power drawn."),
        "pdu_load_state": Fact(str, "State of the phase or bank that is worst off."),
        "pdu_current_amperes": Fact(float, "Current of the fullest phase or bank."),
        "printer_status": Fact(str, "What the printer does: idle, printing, warming_up."),
        "printer_errors": Fact(str, "What it waits for, comma-joined, such as no_paper; empty where nothing."),
        "supply_left_ratio": Fact(float, "Part left of the toner or ink that is lowest, 0 to 1."),
        "printer_alert": Fact(str, "The worst of its own alerts: warning or critical."),
        "sessions": Fact(int, "Sessions through the firewall."),
        "session_used_ratio": Fact(float, "Part of the session table in use, 0 to 1."),
        "ha_mode": Fact(str, "How the firewall works with its partner."),
        "ha_sync": Fact(str, "Whether the pair is synchronised."),
        "access_points": Fact(int, "Access points that the controller knows."),
        "access_points_down": Fact(int, "Access points that are down."),
        "wifi_clients": Fact(int, "Devices on the Wi-Fi."),
    }
)
