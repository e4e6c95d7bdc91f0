"""llama.cpp through llama-cpp-python: the only place that imports `llama_cpp`."""
