"""From a batch of documents to `scored` and the windows: the Faust worker."""
