"""The paper's tables and figures: one module each, run and drawn apart."""
