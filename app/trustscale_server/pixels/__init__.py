"""Arrays of pixels, and what is computed on them alone: colours, filters, sizes, boxes."""
