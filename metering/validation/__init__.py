"""Rules on meter data: plausible, estimated, sealed. Values in, values out."""
