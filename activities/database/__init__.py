"""A PostgreSQL database that belongs to a service: backed up, proven, restored."""
