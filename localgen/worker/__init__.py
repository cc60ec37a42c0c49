"""Models in a process of their own: the process, its protocol, and ``IsolatedModel``."""
