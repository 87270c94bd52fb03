"""Reading people's files, whatever their form.

What a row means to a stage does not belong here.
"""
