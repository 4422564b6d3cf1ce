"""One request, from upload to answer. Read: options, choose, prepare, service."""
