"""The model of NYUD2-DIR, after Hu et al. 2019: `modules.py` its four parts, `net.py` how they make a `Regressor`."""
