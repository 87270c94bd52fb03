"""The forms of files that can be imported, one module each; which one a file has, ``recognize``."""
