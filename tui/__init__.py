"""The chat app: draws, never computes. Imported only by engram_local/cli/tui.py."""
