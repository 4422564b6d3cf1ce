"""What an upload went through: its class, told from its pixels and its file."""
