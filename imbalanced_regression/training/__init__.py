"""The loop: what a run is told, what it reads, what it minimises; no method's name."""
