"""The stack of docker-compose.yml as real containers: `make stack-test`, after `make images`."""
