"""The pages for people: plain HTML, CSS and JavaScript, without a build step.

They are clients of the public API like any other: nothing here knows more than HTTP says.
"""
