"""The network as the checks use it. Whatever sends here takes a `Permit` and sends to the address in it."""
