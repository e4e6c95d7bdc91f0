"""Tests of engram_local/memory."""
