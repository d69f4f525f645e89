"""Simulated canaries: how often the judge is wrong about healthy releases, and how soon it is right about bad ones."""
