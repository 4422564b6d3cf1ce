"""Which pairs an archive or a folder holds, and whether they can be measured."""
