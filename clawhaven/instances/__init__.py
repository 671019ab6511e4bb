"""Room: assistants, their states, files, places, operations and progress."""
