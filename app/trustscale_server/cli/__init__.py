"""The command line: `trustscale`, a module per command."""
