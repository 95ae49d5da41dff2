"""An audit of retrievers: where in a document must the answer stand to be found?"""
