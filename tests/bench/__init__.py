"""Tests of engram_local/bench."""
