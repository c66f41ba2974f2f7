"""The desk: the analysts' page and its JSON API, on what Redis holds of alerts. It decides nothing of its own."""
