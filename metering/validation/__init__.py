"""Rules on meter data: plausible, estimated, disjoint, sealed. Values in, values out."""
