"""Measuring this computer: RAM, drive, copies to GPUs, short runs of models."""
