"""The generated pages of the documentation, one module for each kind of page.

`registries` is the only module that knows where the package keeps its tables.
"""
