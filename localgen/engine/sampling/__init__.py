"""Choose tokens: pure filters and penalties, and the chain that composes them."""
