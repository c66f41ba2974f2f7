"""Windows of counts, detection of surges, the life of alerts and their delivery."""
