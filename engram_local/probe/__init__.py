"""Measuring this machine: RAM, drive, GPU copies, short runs of a model."""
