"""What codes are worth: probes, retrieval, references, curvature."""
