"""Tests of engram_local/formats."""
