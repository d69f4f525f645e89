"""Reads the task that a deployment is for, and tells its tracker how that ended."""
