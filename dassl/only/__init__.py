"""A folder for the search path of modules, in which `dassl` is all that there is to find."""
