"""The Bayesian-optimisation configurator: ask and tell, never runs a pipeline."""
