"""The network: from weights to classes, confidence, logits and features."""
