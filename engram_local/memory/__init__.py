"""The n-gram memory: hashing, table, fusion, prefetch. Knows nothing of llama.cpp."""
