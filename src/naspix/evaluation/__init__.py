"""Explanations of a whole data set, judged: LeRF, localisation, saliency by meaning."""
