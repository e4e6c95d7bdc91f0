"""The tests of engram_local. Everything they need lies in this folder."""
