"""What a chat model wrote → text, reasoning and tool calls; it knows no models and no tokens."""
