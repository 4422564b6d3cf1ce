"""M samples of one input become Ŷ and σ: the part that calibrating and serving share."""
