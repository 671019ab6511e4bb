"""What the site's style sheet, icons and scripts are built from. Only developers need it."""
