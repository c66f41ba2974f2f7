"""Labels, network, training, weights, and `Scorer`: texts in, sentiment and topic out."""
