"""Conversations: what was said, how it is kept, what may be done with it.

Knows neither engine nor screen: `run`'s line chat and the chat app both use it.
"""
