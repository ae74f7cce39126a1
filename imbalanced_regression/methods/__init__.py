"""The methods, one file per paper: numpy or torch and bins, nothing else."""
