"""Files to pictures: formats, colours, depth, damage."""
