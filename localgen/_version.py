"""The version of localgen."""

__version__ = "0.1.0"
