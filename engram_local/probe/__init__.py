"""Measuring this computer: RAM, drive, short runs of models."""
