"""File formats. The only place that knows key names.

One module per dialect, each with the same two names: `matches(header)` and
`read_memory(header)`.
"""
