"""Echo Proxy: teaches a cheap model with the answers that an expensive one has already given."""

__version__ = "0.1.0"
