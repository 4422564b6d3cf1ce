"""Connect an upscaler of which only the address is known: read its description, then call once."""
