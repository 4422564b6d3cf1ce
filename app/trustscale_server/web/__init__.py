"""The pages for people: plain HTML, CSS and JavaScript, without a build step.

They are ordinary clients of the public API.
"""
