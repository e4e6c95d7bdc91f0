"""Measuring speed: arms side by side in one run, ratios of pairs, noise floor."""
