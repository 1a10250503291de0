"""What others publish about upstream prices, read strictly: values in, values out, no database."""
