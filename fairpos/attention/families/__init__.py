"""What is special to the attention of one family of models, a file each; `find` says which of it a model has."""
