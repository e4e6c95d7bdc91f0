"""With the real default backbone. Marked `model`; `make test` runs them too."""
