"""Door: the command line. A client of the HTTP API, and the commands that start the server."""
