"""Evaluation of codes: probes, retrieval, references, curvature."""
