"""Raw rows: read, found by seek, turned into token ids."""
