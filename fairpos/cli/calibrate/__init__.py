"""`fairpos calibrate METHOD`: measure what a method needs to know of a model, one method a module."""
