"""Tells people and programs what happened to a deployment: one attempt at a time, never in a deployment's way."""
