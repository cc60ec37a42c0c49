"""A call: arguments → sequences → results; who drives the engine; streams, prefixes, sessions."""
