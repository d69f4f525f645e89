"""Judges a candidate against the stable revision by evidence; functions of counters and of a state."""
