"""Reports what is installed, how fast it is, and what is wrong with it."""
