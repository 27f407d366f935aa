"""A whole lab under random faults: real processes, databases and broker, on loopback."""
