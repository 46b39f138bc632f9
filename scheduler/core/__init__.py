"""Pure rules: values in, values out. Nothing here knows a clock, a loop or a library."""
