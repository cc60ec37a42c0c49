"""What requests may have and what answers have, as pydantic models and typed dicts."""
