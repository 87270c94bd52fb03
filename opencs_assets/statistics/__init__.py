"""Arrays in, numbers out: intervals, strengths, agreement, length control, power, densities.

Where the arrays come from and where the numbers are shown does not belong here.
"""
