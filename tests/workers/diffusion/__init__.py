"""Tests of diffusion pipelines, with tiny networks of random weights."""
