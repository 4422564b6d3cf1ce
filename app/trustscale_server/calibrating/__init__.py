"""Making a calibration: pairs are taken in, measured one by one, and folded to one document."""
