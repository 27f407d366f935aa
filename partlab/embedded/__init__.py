"""A whole lab on one machine: broker, database, API and worker as children of `part up`."""
