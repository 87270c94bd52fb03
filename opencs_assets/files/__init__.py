"""Reading people's files, damaged ones too, and keeping versions of them.

What a row means to a stage does not belong here.
"""
