"""What was measured on this machine: kept between runs, and used when a model is loaded."""
