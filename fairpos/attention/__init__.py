"""How attention methods get at a transformers model, without a copied modelling file."""
