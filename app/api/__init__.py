"""HTTP: this package only translates between requests and the service."""
