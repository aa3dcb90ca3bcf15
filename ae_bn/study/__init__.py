"""Runs: one run, sweeps of many, the record of what they found, and their compiled models."""
