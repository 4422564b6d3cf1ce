"""Watching what is served: do inputs and losses still look like those of the calibration?"""
