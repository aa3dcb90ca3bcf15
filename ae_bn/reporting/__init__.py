"""From results to what people read: statistics, tables, figures, and a look into a model."""
