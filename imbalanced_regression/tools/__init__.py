"""What reads and compares labels and finished runs."""
