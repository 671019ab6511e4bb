"""LLM vendors: where to send a request, and how to read what it used."""
