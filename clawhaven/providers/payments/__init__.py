"""Payment vendors, one file each (a vendor's own helpers carry its name)."""
