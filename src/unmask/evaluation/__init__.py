"""Evaluation: bounds on the likelihood, and what samples look like."""
