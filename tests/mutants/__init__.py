"""Small realistic faults, tried on each method module: do the tests beside it catch them?"""
