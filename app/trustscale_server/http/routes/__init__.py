"""The routes of the API, a module per thing they are about."""
