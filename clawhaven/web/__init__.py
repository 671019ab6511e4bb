"""Door: the web site. Server-rendered pages that work without JavaScript."""
