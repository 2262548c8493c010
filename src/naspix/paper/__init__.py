"""The paper's tables and figures, one module each; `experiment.py` says what each consists of."""
