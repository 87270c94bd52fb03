"""Reading people's files, damaged ones too, and keeping versions of them.

The meaning of a row belongs to the stage that reads it.
"""
